//! Several of them at once, and deaths at the wrong moment.

use mount::HostPath;
use rustix::process::Signal;
use volumes::{PolicyPatch, VolumeSettings};

use crate::scene::Scene;

#[test]
fn one_waits_for_the_other_and_says_so() {
    let scene = Scene::new();
    let mut first = scene.hold("v", "locked", "echo 1 > $T/f");
    let mut second = scene.start("v", "locked", "cat $T/f");
    let said = second.error_line();
    assert!(
        said.starts_with("larder: waiting for volume `default/v`, held by step `sh -c echo 1"),
        "{said}"
    );
    assert!(said.ends_with("next in the queue"), "{said}");
    let seen = scene.inspect("v");
    assert_eq!(
        (&seen["leases"][0]["sharing"], &seen["waiting"][0]["sharing"]),
        (&"locked".into(), &"locked".into())
    );
    assert_eq!(seen["waiting"][0]["step"], "sh -c cat $T/f");
    first.go();
    let said = second.error_line();
    assert!(said.starts_with("larder: got volume `default/v` after "), "{said}");
    assert_eq!((first.end().status, second.end().ok().as_str()), (0, "1\n"));
}

#[test]
fn a_fork_does_not_wait_and_is_warm() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "private", "echo 1 > $T/f").status, 0);
    let mut locked = scene.hold("v", "locked", "echo 2 > $T/f");
    assert_eq!(scene.run("v", "private", "cat $T/f").ok(), "1\n");
    assert_eq!(scene.run("v", "ro", "cat $T/f").ok(), "1\n");
    locked.go();
    assert_eq!(locked.end().status, 0);
    assert_eq!(scene.run("v", "ro", "cat $T/f").ok(), "2\n");
}

#[test]
fn sharers_see_one_tree() {
    let scene = Scene::new();
    for form in ["in place", "versioned"] {
        let mut first = scene.hold("v", "shared", "rm -f $T/*");
        assert_eq!(scene.run("v", "shared", "echo 1 > $T/f").status, 0, "{form}");
        let seen = scene.run("v", "shared", "cat $T/f").ok();
        first.go();
        assert_eq!((first.end().status, seen.as_str()), (0, "1\n"), "{form}");
        assert_eq!(scene.run("v", "private", "cat $T/f").ok(), "1\n", "{form}");
    }
}

#[test]
fn a_killed_holder_is_gone_with_its_command() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "private", "echo 1 > $T/f").status, 0);
    for sharing in ["private", "locked"] {
        let mut holder = scene.hold("v", sharing, "echo 2 > $T/f; echo 3 > $T/g");
        holder.kill();
        holder.silence();
        let after = scene.run("v", "locked", "cat $T/*");
        assert_eq!((after.status, after.out.as_str()), (0, "1\n"), "{sharing}");
    }
    assert!(scene.inspect("v")["leases"].as_array().unwrap().is_empty());
    assert_eq!(scene.volume(["rm", "v"]).status, 0);
}

#[test]
fn a_lease_lasts_until_the_last_of_a_killed_holders_children_is_gone() {
    let scene = Scene::new();
    let fifo = scene.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let script = format!(
        "setsid sh -c 'echo holding; read go < {}; echo late > $T/f' & wait",
        fifo.display()
    );
    let mut holder = scene.start("v", "locked", &script);
    assert_eq!(holder.line(), "holding");
    holder.kill();
    let mut next = scene.start("v", "locked", "cat $T/f");
    assert!(next.error_line().contains("waiting for volume"));
    std::fs::write(&fifo, "go\n").unwrap();
    assert_eq!(next.end().ok(), "late\n");
}

#[test]
fn a_waiter_that_is_told_to_end_leaves_the_queue() {
    let scene = Scene::new();
    let mut first = scene.hold("v", "locked", "true");
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut second = scene.start("v", "locked", "echo never");
        assert!(second.error_line().contains("waiting"));
        second.signal(signal);
        let ended = second.end();
        assert_eq!((ended.status, ended.out.as_str()), (status, ""), "{ended:?}");
        assert_eq!(scene.inspect("v")["waiting"].as_array().unwrap().len(), 0);
    }
    first.go();
    assert_eq!(first.end().status, 0);
}

#[test]
fn a_killed_waiter_is_in_nobodys_way() {
    let scene = Scene::new();
    let mut first = scene.hold("v", "locked", "true");
    let mut second = scene.start("v", "locked", "echo never");
    assert!(second.error_line().contains("waiting"));
    second.kill();
    first.go();
    assert_eq!(first.end().status, 0);
    assert_eq!(scene.run("v", "locked", "echo mine").ok(), "mine\n");
}

#[test]
fn a_signal_is_passed_on_and_what_was_written_is_thrown_away() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "private", "echo 1 > $T/f").status, 0);
    let script =
        "trap 'echo told; exit 5' TERM; echo 2 > $T/f; echo holding; while :; do read x; done";
    let mut holder = scene.start("v", "private", script);
    assert_eq!(holder.line(), "holding");
    holder.signal(Signal::TERM);
    holder.go();
    let ended = holder.end();
    assert_eq!((ended.status, ended.out.as_str()), (5, "told\n"), "{ended:?}");
    assert_eq!(scene.run("v", "shared", "cat $T/f").ok(), "1\n");
}

#[test]
fn the_operators_settings_hold_for_commands_too() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "shared", "true").status, 0);
    let wait_limit = Some(std::time::Duration::ZERO);
    let defaults = PolicyPatch { wait_limit, ..PolicyPatch::default() };
    let settings = VolumeSettings { defaults, ..VolumeSettings::default() };
    settings.save(&HostPath::new(scene.path("root/volumes")).unwrap()).unwrap();
    let mut holder = scene.hold("v", "locked", "true");
    let refused = scene.run("v", "locked", "echo never");
    assert_eq!((refused.status, refused.out.as_str()), (124, ""), "{refused:?}");
    assert!(refused.err.contains("gave up waiting for volume `default/v`"), "{refused:?}");
    holder.go();
    assert_eq!(holder.end().status, 0);
}

#[test]
fn eight_at_once_lose_nothing() {
    let scene = Scene::new();
    let script = "n=$(cat $T/n 2>/dev/null || echo 0); echo $((n + 1)) > $T/n";
    let runs: Vec<_> = (0..8).map(|_| scene.start("v", "locked", script)).collect();
    for run in runs {
        assert_eq!(run.end().status, 0);
    }
    assert_eq!(scene.run("v", "shared", "cat $T/n").ok(), "8\n");
}
