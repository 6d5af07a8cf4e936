//! How processes end when nobody waits for them, and that nothing is left.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use executor::{
    ExecSpec, Executor as _, ExecutorConfig, ExitStatus, GuestMount, LinuxExecutor, Network,
    ProcessIo, Security, UserSpec,
};
use mount::{GuestPath, Mount, MountSource};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::fixture::{Fixture, collecting};
use crate::{Case, Outcome, cases};

pub(crate) const CASES: &[Case] = cases![
    dropping_the_guard_kills_the_whole_tree,
    stopping_waits_until_nothing_is_left,
    dropping_the_start_leaves_nothing,
    what_is_held_outlives_the_last_process,
    nothing_stays_mounted,
    the_next_container_is_made_ahead,
    a_keeper_keeps_one_process_after_the_other,
    what_is_mounted_meanwhile_is_seen,
    a_dead_helper_is_replaced,
    the_helper_cannot_be_changed_through_its_link,
    a_killed_daemon_leaves_nothing,
    leftover_cgroups_are_swept,
];

/// A script that starts a tree of processes, and what it is found by.
fn tree(mark: u32) -> String {
    format!(
        "sleep {mark} & (setsid sh -c 'trap \"\" TERM; sleep {mark} & sleep {mark}' &); \
         sleep 0.2; echo ready; sleep {mark}"
    )
}

/// The processes of the host whose command line has `mark`, each with a hold on it.
fn marked(mark: u32) -> anyhow::Result<Vec<std::os::fd::OwnedFd>> {
    let pids = pids_marked(mark)?;
    Ok(pids.into_iter().filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).collect())
}

fn pids_marked(mark: u32) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if command.contains(&format!("sleep\0{mark}")) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// Returns the parent of a process, as the host sees it; none if it is gone.
fn parent_of(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1).map(str::to_owned)
}

/// Waits until all of them have ended.
async fn all_ended(processes: Vec<std::os::fd::OwnedFd>) -> Outcome {
    tasks::blocking("wait", move || {
        for process in processes {
            let mut polled = [PollFd::new(&process, PollFlags::IN)];
            poll(&mut polled, None).context("poll")?;
        }
        Ok(())
    })
    .await?
}

async fn dropping_the_guard_kills_the_whole_tree() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, mut stdout, _stderr) = collecting();
    let running = fixture.executor.start(fixture.shell(&tree(918_273)), io).await?;
    ensure!(stdout.recv().await.unwrap_or_default() == b"ready\n"[..]);
    let processes = marked(918_273)?;
    ensure!(processes.len() >= 3, "{}", processes.len());
    drop(running);
    all_ended(processes).await
}

async fn stopping_waits_until_nothing_is_left() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, mut stdout, _stderr) = collecting();
    let running = fixture.executor.start(fixture.shell(&tree(918_274)), io).await?;
    ensure!(stdout.recv().await.unwrap_or_default() == b"ready\n"[..]);
    ensure!(marked(918_274)?.len() >= 3);
    ensure!(running.stop().await? == ExitStatus::Signal(9));
    ensure!(marked(918_274)?.is_empty());
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    ensure!(!groups_of(&fixture)?.contains(&FIRST.to_owned()));
    Ok(())
}

async fn dropping_the_start_leaves_nothing() -> Outcome {
    let fixture = Fixture::new().await?;
    for number in 0..40 {
        let (released, mut wait) = tokio::sync::mpsc::channel::<()>(1);
        let mut spec = fixture.shell("sleep 918275");
        spec.held.hold(released);
        let start = fixture.executor.start(spec, ProcessIo::null());
        // As far as it gets in so many turns, and perhaps to its end.
        let turns = async {
            for _ in 0..number * 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            running = start => drop(running?),
            () = turns => {}
        }
        // What was held is let go when the layer is free again.
        ensure!(wait.recv().await.is_none());
        ensure!(marked(918_275)?.is_empty());
    }
    ensure!(fixture.run(fixture.spec(&["true"])).await?.status.success());
    Ok(())
}

async fn what_is_held_outlives_the_last_process() -> Outcome {
    let fixture = Fixture::new().await?;
    let (released, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    let (io, mut stdout, _stderr) = collecting();
    let mut spec = fixture.shell(&tree(918_277));
    spec.held.hold(released);
    let running = fixture.executor.start(spec, io).await?;
    ensure!(stdout.recv().await.unwrap_or_default() == b"ready\n"[..]);
    ensure!(wait.try_recv() == Err(tokio::sync::mpsc::error::TryRecvError::Empty));
    drop(running);
    ensure!(wait.recv().await.is_none());
    ensure!(marked(918_277)?.is_empty());
    ensure!(!groups_of(&fixture)?.contains(&FIRST.to_owned()));
    let (released, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    let mut spec = fixture.spec(&["true"]);
    spec.held.hold(released);
    let running = fixture.executor.start(spec, ProcessIo::null()).await?;
    ensure!(running.wait().await?.success());
    ensure!(wait.try_recv() == Err(tokio::sync::mpsc::error::TryRecvError::Disconnected));
    Ok(())
}

async fn nothing_stays_mounted() -> Outcome {
    let fixture = Fixture::new().await?;
    let mounts = || fs::read_to_string("/proc/self/mountinfo");
    let before = mounts()?;
    let (io, mut stdout, stderr) = collecting();
    let running = fixture.executor.start(fixture.shell("echo ready; sleep 0.1"), io).await?;
    ensure!(stdout.recv().await.is_some());
    ensure!(mounts()? == before, "a container's mounts are its own");
    crate::fixture::collect(running, stdout, stderr).await?;
    ensure!(mounts()? == before);
    ensure!(!groups_of(&fixture)?.contains(&FIRST.to_owned()));
    // Busy directories could not be removed.
    fs::remove_dir_all(fixture.path("work"))?;
    Ok(())
}

async fn the_next_container_is_made_ahead() -> Outcome {
    let fixture = Fixture::new().await?;
    let group = |text: &str| text.trim().rsplit('/').next().unwrap_or_default().to_owned();
    let where_am_i = "grep ^0: /proc/self/cgroup";
    let first = group(&fixture.output(where_am_i).await?);
    if !first.starts_with("step-") {
        // Without cgroups of version 2 it cannot be told.
        return Ok(());
    }
    ensure!(first == FIRST, "{first}");
    // The one made ahead shows as a group; that it is kept for us is told a moment later.
    for _ in 0..20 {
        let ahead = ahead(&fixture).await?;
        if group(&fixture.output(where_am_i).await?) == ahead {
            // One of another kind is of no use.
            let other = self::ahead(&fixture).await?;
            let mut spec = fixture.shell(where_am_i);
            spec.network = Network::None;
            let done = fixture.run(spec).await?;
            ensure!(group(&done.stdout) != other, "{other}");
            // It is not left to the next executor either.
            let directory = family_of(&fixture).context("no family")?;
            drop(fixture);
            ensure!(!directory.exists());
            return Ok(());
        }
    }
    anyhow::bail!("it was never used")
}

async fn a_keeper_keeps_one_process_after_the_other() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut keepers = Vec::new();
    for round in 0..20 {
        let script = "echo ready; exec sleep 918278";
        let (io, mut stdout, _stderr) = collecting();
        let running = fixture.executor.start(fixture.shell(script), io).await?;
        ensure!(stdout.recv().await.is_some());
        let pid = loop {
            if let Some(pid) = pids_marked(918_278)?.pop() {
                break pid;
            }
        };
        let keeper = parent_of(pid).context("it is gone")?;
        ensure!(running.stop().await? == ExitStatus::Signal(9));
        if round == 0 {
            // Who comes too late is told so, and what comes of the keeper is nobody's harm.
            let late = ExecSpec {
                args: vec!["true".to_owned()],
                env: Vec::new(),
                cwd: GuestPath::root(),
                user: UserSpec::default(),
                security: Security::Sandbox,
                tty: false,
            };
            ensure!(running.exec(late, ProcessIo::null()).await.is_err());
        }
        drop(running);
        if keepers.contains(&keeper) {
            return Ok(());
        }
        keepers.push(keeper);
    }
    anyhow::bail!("always another one: {keepers:?}")
}

/// Waits until a container is made ahead and returns the name of its group.
async fn ahead(fixture: &Fixture) -> anyhow::Result<String> {
    loop {
        if let Some(group) = groups_of(fixture)?.pop() {
            return Ok(group);
        }
        tokio::task::yield_now().await;
    }
}

async fn what_is_mounted_meanwhile_is_seen() -> Outcome {
    let fixture = Fixture::new().await?;
    fixture.output("true").await?;
    if family_of(&fixture).is_some() {
        ahead(&fixture).await?;
    }
    let outside = fixture.path("outside");
    mount("tmpfs", &outside, "tmpfs", MountFlags::empty(), None)?;
    let mut spec = fixture.shell("ls /outside");
    let source = Mount { source: MountSource::Bind(fixture.host("outside")), readonly: false };
    let selector = GuestPath::root();
    let bound = GuestMount::Mount { mount: source, selector };
    spec.mounts.push((crate::fixture::guest("/outside"), bound));
    let done = fs::write(outside.join("new"), "").map(|()| fixture.run(spec));
    let listed = match done {
        Ok(done) => done.await.map(|done| done.stdout),
        Err(error) => return Err(error.into()),
    };
    unmount(&outside, UnmountFlags::DETACH)?;
    ensure!(listed? == "new\n");
    Ok(())
}

/// The cgroup of an executor's first container.
const FIRST: &str = "step-0";

/// The cgroups of the fixture's executor.
fn groups_of(fixture: &Fixture) -> anyhow::Result<Vec<String>> {
    let Some(family) = family_of(fixture) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(family)?.flatten() {
        if entry.file_type()?.is_dir() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The version 2 directory of the fixture's executor, if the machine has one.
fn family_of(fixture: &Fixture) -> Option<std::path::PathBuf> {
    let state = fixture.path("state");
    let hash = state.to_str()?.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|root| fs::exists(format!("{root}/cgroup.controllers")).unwrap_or(false))?;
    let family = std::path::PathBuf::from(format!("{root}/larder-{hash:016x}"));
    family.exists().then_some(family)
}

async fn a_dead_helper_is_replaced() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, mut stdout, stderr) = collecting();
    let script = "echo ready; read x; exit 4";
    let (input, chunks) = tokio::sync::mpsc::channel(1);
    let io = ProcessIo { stdin: executor::Input::Chunks(chunks), ..io };
    let running = fixture.executor.start(fixture.shell(script), io).await?;
    ensure!(stdout.recv().await.is_some());
    kill_helpers()?;
    // A step that runs is not touched, and the next one finds a new helper.
    let mut spec = fixture.spec(&["true"]);
    spec.root = fixture.layer("-other");
    ensure!(fixture.run(spec).await?.status.success());
    drop(input);
    let done = crate::fixture::collect(running, stdout, stderr).await?;
    ensure!(done.status == ExitStatus::Code(4), "{done:?}");
    Ok(())
}

async fn the_helper_cannot_be_changed_through_its_link() -> Outcome {
    let fixture = Fixture::new().await?;
    fixture.output("true").await?;
    let mut count = 0;
    for pid in helpers()? {
        let link = format!("/proc/{}/exe", pid.as_raw_nonzero());
        let flags = rustix::fs::statvfs(link)?.f_flag;
        ensure!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{flags:?}");
        count += 1;
    }
    ensure!(count >= 1);
    Ok(())
}

/// Kills the helpers of this process, and waits for their end.
fn kill_helpers() -> Outcome {
    for pid in helpers()? {
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL)?;
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None)?;
    }
    Ok(())
}

/// Returns the helpers that are children of this process.
fn helpers() -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    let me = std::process::id();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if stat.contains("(larder-step)")
            && let Some(pid) = Pid::from_raw(pid)
            && parent_of(pid).is_some_and(|parent| parent == me.to_string())
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The name under which this program plays a daemon that is to be killed.
pub(crate) const DAEMON: &str = "doomed-daemon";

/// Starts a step in the directory given, says so, and waits for the end.
pub(crate) async fn play_daemon() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, mut stdout, _stderr) = collecting();
    let _running = fixture.executor.start(fixture.shell(&tree(918_276)), io).await?;
    ensure!(stdout.recv().await.is_some());
    println!("{}", fixture.path("").display());
    std::future::pending().await
}

#[expect(clippy::disallowed_methods, reason = "plays a daemon that is killed")]
async fn a_killed_daemon_leaves_nothing() -> Outcome {
    let mut daemon = Command::new("/proc/self/exe").arg0(DAEMON).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().context("piped")?).read_line(&mut line)?;
    let processes = marked(918_276)?;
    ensure!(processes.len() >= 3, "{}", processes.len());
    daemon.kill()?;
    daemon.wait()?;
    all_ended(processes).await?;
    let directory = std::path::Path::new(line.trim());
    ensure!(!fs::read_to_string("/proc/self/mountinfo")?.contains(line.trim()));
    fs::remove_dir_all(directory)?;
    Ok(())
}

async fn leftover_cgroups_are_swept() -> Outcome {
    let fixture = Fixture::new().await?;
    fixture.output("true").await?;
    let Some(family) = family_of(&fixture) else {
        println!("  (this machine has no version 2 cgroups)");
        return Ok(());
    };
    fs::create_dir(family.join("left-over"))?;
    let config = ExecutorConfig::new(fixture.host("state"));
    drop(LinuxExecutor::open(config).await?);
    // The fixture's own executor may have begun another container meanwhile.
    ensure!(!groups_of(&fixture)?.contains(&"left-over".to_owned()));
    Ok(())
}
