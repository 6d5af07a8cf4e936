//! What the commands say.

use std::os::unix::ffi::OsStrExt as _;

use crate::scene::Scene;

/// Returns JSON without what is different every time.
fn steady(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Array(items) => {
            items.iter_mut().for_each(|item| *item = steady(item.take()));
        }
        serde_json::Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                *field = match name.as_str() {
                    "created" | "lastUsed" | "modified" | "since" => "TIME".into(),
                    "bytes" | "inodes" | "pid" => "NUMBER".into(),
                    _ => steady(field.take()),
                };
            }
        }
        _ => {}
    }
    value
}

#[test]
fn json_is_what_programs_rely_on() {
    let scene = Scene::new();
    assert_eq!(scene.run("go", "shared", "echo 1 > $T/one").status, 0);
    assert_eq!(scene.run("go", "private", "ln -s one $T/two").status, 0);
    assert_eq!(scene.volume(["policy", "go", "--quota", "5GB", "--expiry", "2d"]).status, 0);
    let mut volume = steady(scene.inspect("go"));
    let versions = volume["versions"].take();
    let policy = volume["policy"].take();
    assert_json(
        &volume,
        r#"{
        "key": "64 digits",
        "namespace": "default", "id": "go", "variant": null, "bytes": "NUMBER", "inodes": "NUMBER",
        "form": "versioned", "created": "TIME", "lastUsed": "TIME", "uses": 2, "head": 2,
        "versions": null, "leases": [], "waiting": [], "policy": null
    }"#,
    );
    assert_json(
        &versions,
        r#"[
        {"number": 1, "parent": null, "origin": "created", "created": "TIME",
         "build": "larder volume run", "step": "sh -c echo 1 > $T/one", "layers": 1},
        {"number": 2, "parent": 1, "origin": "published", "created": "TIME",
         "build": "larder volume run", "step": "sh -c ln -s one $T/two", "layers": 2}
    ]"#,
    );
    assert_json(
        &policy,
        r#"{
        "merge": "last-writer", "onFailure": "keep", "onInterrupt": null, "noCache": "fresh",
        "quotaBytes": 5368709120, "quotaInodes": null, "floor": 0, "expiry": 172800,
        "pinned": false, "waitLimit": null, "driver": "auto", "versions": 3
    }"#,
    );
    let listed = scene.volume(["browse", "go", "--format", "json"]).ok();
    assert_json(
        &steady(serde_json::from_str(&listed).unwrap()),
        r#"[
        {"name": "one", "kind": "file", "size": 2, "mode": "0644", "uid": 0, "gid": 0,
         "modified": "TIME"},
        {"name": "two", "kind": "symlink", "size": 3, "mode": "0777", "uid": 0, "gid": 0,
         "modified": "TIME", "target": "one"}
    ]"#,
    );
}

/// Compares documents; keys are a function of the name, told apart by the crate that makes them.
fn assert_json(found: &serde_json::Value, expected: &str) {
    let mut expected: serde_json::Value = serde_json::from_str(expected).unwrap();
    let mut found = found.clone();
    if let (Some(found), Some(expected)) = (found.get_mut("key"), expected.get_mut("key")) {
        assert_eq!(found.as_str().unwrap().len(), 64);
        *expected = found.clone();
    }
    assert_eq!(found, expected, "found {found:#}");
}

#[test]
fn tables_have_a_line_for_each() {
    let scene = Scene::new();
    for id in ["b", "a"] {
        assert_eq!(scene.run(id, "shared", "true").status, 0);
    }
    let listed = scene.volume(["ls"]).ok();
    let lines: Vec<Vec<&str>> = listed.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["NAMESPACE", "ID", "SIZE"]);
    assert_eq!((lines[1][1], lines[2][1], lines.len()), ("a", "b", 3));
    let keys = scene.volume(["ls", "-q"]).ok();
    assert_eq!(keys.lines().map(str::len).collect::<Vec<_>>(), [64, 64]);
    assert_eq!(scene.volume(["ls", "-q", "--namespace", "other"]).ok(), "");
    let first = keys.lines().next().unwrap();
    assert!(scene.volume(["inspect", &first[..10]]).ok().contains(first), "a key may be cut");
}

#[test]
fn an_id_is_any_bytes() {
    let scene = Scene::new();
    for id in [&b"../x"[..], b"\xff\xfe", "🦀 a\nb".as_bytes(), b"--all"] {
        let id = std::ffi::OsStr::from_bytes(id);
        let mut command = scene.command();
        command.arg("--root").arg(scene.path("root")).args(["volume", "run", "--target"]);
        let mut flag = std::ffi::OsString::from("--id=");
        flag.push(id);
        command.arg(scene.target()).arg(flag).args(["--", "touch"]).arg(scene.target().join("f"));
        assert!(command.status().unwrap().success());
        let found = scene.volume(["browse".as_ref(), "--".as_ref(), id]).ok();
        assert!(found.contains(" f\n"), "{found}");
    }
    assert_eq!(scene.volume(["ls", "-q"]).ok().lines().count(), 4);
    assert!(!scene.path("x").exists());
}

#[test]
fn what_an_owner_does_is_seen() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "private", "echo 1 > $T/f").status, 0);
    assert_eq!(scene.volume(["fork", "v", "w"]).status, 0);
    assert_eq!(scene.run("w", "shared", "cat $T/f").ok(), "1\n");
    assert_eq!(scene.volume(["reset", "v"]).status, 0);
    assert_eq!(scene.run("v", "shared", "ls $T").ok(), "");
    let versions = scene.inspect("v")["versions"].clone();
    let written = versions.as_array().unwrap().iter().find(|one| one["origin"] == "published");
    let number = written.unwrap()["number"].to_string();
    assert_eq!(scene.volume(["rollback", "v", &number]).status, 0);
    assert_eq!(scene.run("v", "ro", "cat $T/f").ok(), "1\n");
    assert_eq!(scene.volume(["pin", "v"]).status, 0);
    let pruned = scene.volume(["prune", "--all"]).ok();
    assert!(pruned.contains("default/w") && !pruned.contains("default/v"), "{pruned}");
    assert_eq!(scene.volume(["unpin", "v"]).status, 0);
    assert_eq!(scene.volume(["prune", "--all", "--id", "x*"]).ok(), "Total: 0B\n");
    assert_eq!(scene.volume(["prune", "--all", "--unused-for", "1h"]).ok(), "Total: 0B\n");
    assert!(scene.volume(["prune", "--keep-storage", "0"]).ok().contains("default/v"));
    assert_eq!(scene.volume(["ls", "-q"]).ok(), "");
}

#[test]
fn a_path_is_where_the_files_are() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "shared", "echo 1 > $T/f").status, 0);
    let path = scene.volume(["path", "v"]).ok();
    assert_eq!(std::fs::read_to_string(format!("{}/f", path.trim_end())).unwrap(), "1\n");
}

#[test]
fn shells_can_complete() {
    let scene = Scene::new();
    for (shell, says) in
        [("bash", "complete -F"), ("zsh", "#compdef larder"), ("fish", "complete -c larder")]
    {
        let output = scene.command().args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains(says) && script.contains("rollback"), "{shell}");
    }
}
