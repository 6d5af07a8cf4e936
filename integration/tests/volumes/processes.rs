//! More than one process on the same volumes: another daemon, and commands of the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use integration::house::{GOT, House, WAITING, at_c};
use integration::{Buildx, Daemon, Launch, Program, Settings};
use tempfile::TempDir;

/// A command that says nothing for this long hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Two daemons with roots of their own, and one directory of volumes.
struct Two {
    house: House,
    /// Of the second daemon.
    client: Buildx,
    second: Daemon,
    _volumes: TempDir,
}

impl Two {
    fn start() -> anyhow::Result<Self> {
        let mut house = House::start("")?;
        let settings = Settings::read()?;
        let mut second = Daemon::start(&settings, Launch::default())?;
        let directory = TempDir::with_prefix("larder-volumes-")?;
        let volumes = directory.path().join("volumes");
        let first = house.world.daemon()?;
        first.stop()?;
        second.stop()?;
        fs::rename(first.root().join("volumes"), &volumes)?;
        fs::remove_dir_all(second.root().join("volumes"))?;
        for daemon in [first, &mut second] {
            symlink(&volumes, daemon.root().join("volumes"))?;
            daemon.up()?;
        }
        house.reconnect()?;
        let client = Buildx::connect(&settings, &second.address())?;
        Ok(Self { house, client, second, _volumes: directory })
    }

    /// Returns what a step of the second daemon says.
    fn run(&self, mount: &str, command: &str) -> anyhow::Result<Vec<String>> {
        let project = self.house.project(mount, command)?;
        let build = self.client.build(&project).succeed()?;
        Ok(build.step("] RUN")?.lines.clone())
    }
}

#[test]
fn two_daemons_on_one_directory_of_volumes_obey_each_other() -> anyhow::Result<()> {
    let two = Two::start()?;
    let house = &two.house;
    let locked = at_c("v", ",sharing=locked");
    let first = house.hold("a", &locked, ["echo first > /c/log", "true"])?;
    let project = house.project(&locked, "echo second >> /c/log")?;
    let second = two.client.build(&project).spawn()?;
    second.wait_for(WAITING)?;
    second.wait_for("echo first > /c/log")?;
    house.open("a")?;
    first.succeed()?;
    let second = second.wait()?;
    assert!(second.status.success() && second.output.contains(GOT), "{}", second.output);
    assert_eq!(house.run(&locked, "cat /c/log")?, ["first", "second"]);
    // What one publishes, the other forks.
    house.run(&at_c("v", ",sharing=private"), "echo third >> /c/log")?;
    let fork = house.hold("b", &at_c("v", ",sharing=private"), ["touch /c/unseen", "true"])?;
    assert_eq!(
        two.run(&at_c("v", ",sharing=private"), "ls /c && tail -n1 /c/log")?,
        ["log", "third"]
    );
    house.open("b")?;
    fork.succeed()?;
    Ok(())
}

#[test]
fn a_daemon_that_dies_holds_up_no_other() -> anyhow::Result<()> {
    let mut two = Two::start()?;
    let mount = at_c("v", ",sharing=locked");
    two.house.run(&at_c("v", ",sharing=private"), "touch /c/old")?;
    let dead = two.house.hold("never", &mount, ["touch /c/half", "true"])?;
    let project = two.house.project(&mount, "ls /c")?;
    let next = two.client.build(&project).spawn()?;
    next.wait_for(WAITING)?;
    two.house.world.daemon()?.kill()?;
    let next = next.wait()?;
    assert!(next.status.success(), "{}", next.output);
    let said = &next.step("] RUN")?.lines;
    assert_eq!(said.last().map(String::as_str), Some("old"), "{said:#?}");
    dead.fail()?;
    two.second.stop()
}

#[test]
fn a_command_of_the_machine_takes_its_turn_with_builds() -> anyhow::Result<()> {
    let mut house = House::start("")?;
    let root = house.world.daemon()?.root();
    let larder = house.world.settings.built("larder")?;
    let target = TempDir::with_prefix("larder-target-")?;
    let target = target.path().display().to_string();
    let command = |work: &str| {
        let run = Program::new(&larder).arg("--root").arg(&root).args(["volume", "run"]);
        let run = run.args(["--id", "v", "--sharing", "locked", "--target", &target]);
        run.args(["--", "sh", "-c", &work.replace("/c/", &format!("{target}/"))])
    };
    // The command waits for a build.
    let locked = at_c("v", ",sharing=locked");
    let build = house.hold("a", &locked, ["echo build > /c/log", "true"])?;
    let waiting = command("cat /c/log && echo command >> /c/log").spawn()?;
    let told = waiting.stderr.wait_for(HANGS, |line| line.contains("echo build > /c/log"));
    assert!(told.is_some(), "who holds it is told: {}", waiting.stderr.text());
    house.open("a")?;
    build.succeed()?;
    let waiting = waiting.wait()?;
    assert!(waiting.status.success() && waiting.stdout == "build", "{waiting:?}");
    // A build waits for the command.
    let gate = house.gate("b")?.display().to_string();
    let work = format!("echo holding && read go < {gate} && echo more >> /c/log");
    let holding = command(&work).spawn()?;
    holding.stdout.wait_for(HANGS, |line| line == "holding");
    let build = house.begin(&locked, "cat /c/log")?;
    build.build.wait_for(WAITING)?;
    house.open("b")?;
    assert!(holding.wait()?.status.success());
    let build = build.succeed()?;
    let said = &build.step("] RUN")?.lines;
    assert!(said.ends_with(&["build", "command", "more"].map(Into::into)), "{said:#?}");
    Ok(())
}
