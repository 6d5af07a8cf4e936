//! Commands with a volume mounted.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::scene::Scene;

#[test]
fn the_volume_is_seen_by_the_command_and_by_nobody_else() {
    let scene = Scene::new();
    std::fs::create_dir(scene.target()).unwrap();
    std::fs::write(scene.target().join("below"), "").unwrap();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for sharing in ["shared", "locked", "private"] {
        let mut talk = scene.hold("v", sharing, "test ! -e $T/below; echo 1 > $T/above");
        assert!(scene.target().join("below").exists() && !scene.target().join("above").exists());
        talk.go();
        assert_eq!(talk.end().status, 0);
    }
    assert_eq!(scene.run("v", "ro", "ls $T").ok(), "above\n");
    let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!after.contains(scene.target().to_str().unwrap()), "{before}\n{after}");
}

#[test]
fn a_reader_cannot_write() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "shared", "echo 1 > $T/f").status, 0);
    let said = scene.run("v", "ro", "cat $T/f; touch $T/g");
    assert_eq!((said.status, said.out.as_str()), (1, "1\n"));
    assert!(said.err.contains("Read-only"), "{said:?}");
}

#[test]
fn owner_and_mode_are_those_asked_for() {
    let scene = Scene::new();
    let mut command = scene.run_command("v", "shared", "unused");
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let split = words.iter().position(|word| word == "--").unwrap();
    let mut other = scene.command();
    other.args(&words[..split]).args(["--uid", "7", "--gid", "8", "--mode", "1770", "--"]);
    let output = other.args(["stat", "-c", "%u %g %a"]).arg(scene.target()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7 8 1770\n");
    command.env_clear();
    assert_eq!(scene.run("v", "shared", "stat -c '%u %g %a' $T").ok(), "0 0 755\n");
    assert_eq!(std::fs::metadata(scene.target()).unwrap().uid(), 0);
}

#[test]
fn a_command_under_the_target_is_in_the_volume() {
    let scene = Scene::new();
    std::fs::create_dir(scene.target()).unwrap();
    let mut command = scene.run_command("v", "shared", "touch here");
    assert!(command.current_dir(scene.target()).status().unwrap().success());
    assert!(scene.volume(["browse", "v"]).ok().contains(" here\n"));
    assert_eq!(std::fs::read_dir(scene.target()).unwrap().count(), 0);
}

#[test]
fn what_a_failed_command_wrote_is_kept_or_not_as_the_policy_says() {
    let scene = Scene::new();
    assert_eq!(scene.run("v", "private", "echo 1 > $T/f; exit 1").status, 1);
    assert_eq!(scene.run("v", "shared", "cat $T/f").ok(), "1\n");
    assert_eq!(scene.volume(["policy", "v", "--on-failure", "discard"]).status, 0);
    for sharing in ["private", "locked", "shared"] {
        assert_eq!(scene.run("v", sharing, "echo 2 > $T/f; exit 1").status, 1);
        assert_eq!(scene.run("v", sharing, "cat $T/f").ok(), "1\n", "{sharing}");
    }
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let scene = Scene::new();
    // The daemon of the command has a session of its own and nothing of ours open but the lease.
    let script = "setsid sh -c 'echo $$ > $T/pid; exec sleep 1000' <&- >&- 2>&- & \
                  until [ -s $T/pid ]; do :; done";
    assert_eq!(scene.run("v", "locked", script).status, 0);
    let pid = scene.run("v", "locked", "cat $T/pid").ok();
    let alive = std::path::Path::new("/proc").join(pid.trim_end());
    assert!(!alive.exists(), "process {pid} still runs");
}

#[test]
fn the_umask_is_the_users() {
    let scene = Scene::new();
    let said = scene.run("v", "shared", "umask 077; touch $T/f; stat -c %a $T/f");
    assert_eq!(said.ok(), "600\n");
    let root = scene.path("root");
    assert_eq!(std::fs::metadata(root).unwrap().permissions().mode() & 0o022, 0);
}
