//! The statuses that scripts rely on.

use crate::scene::Scene;

#[test]
fn each_refusal_has_its_status_and_names_the_volume() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "shared", "true").status, 0);
    assert_eq!(scene.run("w", "shared", "true").status, 0);
    let holder = scene.hold("w", "locked", "true");
    for (words, status, says) in [
        (&["frobnicate"][..], 2, "frobnicate"),
        (&["inspect", "a\u{1}b"], 3, "no volume"),
        (&["inspect", "x"], 3, "no volume `default/x`"),
        (&["inspect", "v", "--namespace", "n"], 3, "no volume `n/v`"),
        (&["browse", "v", "/x"], 3, "volume `default/v` has no directory `/x`"),
        (&["rollback", "v", "9"], 3, "volume `default/v` has no version 9"),
        (&["rm", "w"], 4, "volume `default/w` is in use by step `sh -c true"),
        (&["fork", "v", "w"], 5, "volume `default/w` exists already"),
        (&["rm", "x", "v"], 3, "no volume `default/x`"),
    ] {
        let said = scene.volume(words);
        assert_eq!(said.status, status, "{words:?}: {said:?}");
        assert!(said.err.contains(says), "{words:?}: {said:?}");
    }
    assert_eq!(scene.volume(["inspect", "v"]).status, 3, "the others are removed all the same");
    drop(holder);
}

#[test]
fn a_daemon_that_is_not_there_has_a_status_of_its_own() {
    let scene = Scene::new();
    let address = format!("unix://{}", scene.path("socket").display());
    for arguments in [&["--addr", &address, "volume", "ls"][..], &["volume", "ls"]] {
        let output = scene.command().env("LARDER_HOST", &address).args(arguments).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(6), "{text}");
        assert!(text.contains(&address) && text.contains("larderd"), "{text}");
    }
    let output = scene.command().args(["--addr", "nowhere", "volume", "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn looking_makes_nothing() {
    let scene = Scene::new();
    assert_eq!(scene.volume(["ls"]).status, 3);
    assert_eq!(scene.volume(["path", "v"]).status, 3);
    assert!(!scene.path("root").exists());
}

#[test]
fn a_run_ends_as_its_command_does() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "shared", "exit 42").status, 42);
    assert_eq!(scene.run("v", "shared", "kill -9 $$").status, 128 + 9);
    let run = |words: &[&str]| {
        let target = scene.target();
        let start = ["run", "--id", "v", "--target", target.to_str().unwrap(), "--"];
        scene.volume(start.iter().chain(words))
    };
    let missing = run(&["no-such-program"]);
    assert_eq!(missing.status, 127);
    assert!(missing.err.contains("no-such-program"), "{missing:?}");
    assert_eq!(run(&["/"]).status, 126);
    std::fs::write(scene.path("file"), "").unwrap();
    let file = scene.path("file");
    let refused = scene.volume(["run", "--id", "v", "--target", file.to_str().unwrap(), "true"]);
    assert_eq!(refused.status, 125, "{refused:?}");
    assert!(refused.err.contains("cannot mount at"), "{refused:?}");
}
