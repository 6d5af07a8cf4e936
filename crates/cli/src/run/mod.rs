//! `larder volume run`: a command of this machine under the same lease as a build's step.
//!
//! This process takes the lease and waits for the command; a helper of the same program goes into a mount
//! namespace of its own, mounts the volume there and becomes the command. The helper and all that comes of
//! it have the lease's files open, and die or are ended before anybody else gets the volume: what the
//! command leaves running is ended when it ends, and if this process is killed, the command goes with it and
//! the lease lasts until the last of its children is gone.

pub(crate) mod attached;
mod children;
mod signals;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use mount::HostPath;
use volumes::{
    Label, LeaseRequest, MountRequest, Outcome, RootAttributes, Sharing, VolumeManager, VolumeName,
    WaitObserver, Waiting,
};

use self::attached::Plan;
use self::signals::Signals;
use crate::arguments::{self, RunArguments};
use crate::failure::{Failure, Kind};
use crate::place;
use crate::quantity::shown_duration;
use crate::wanted::Wanted;

/// What is added to the number of the signal that killed the command.
const KILLED: i32 = 128;

/// Returns the failure as that of `larder` itself, not of the command.
pub(crate) fn own_failure(failure: Failure) -> Failure {
    let status = match failure.kind() {
        Kind::WaitedTooLong => 124,
        _ => 125,
    };
    failure.with_status(status)
}

/// Runs a command, and returns its status.
pub(crate) async fn run(root: &Path, arguments: RunArguments) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let volumes = place::open(root).await?;
    let wanted = Wanted { namespace: &arguments.namespace, text: &arguments.id };
    let name = wanted.name()?;
    let target = make_target(&arguments.target)?;
    let request = lease_request(name.clone(), &arguments);
    let leases = tokio::select! {
        leases = volumes.acquire(request, &Teller) => leases?,
        // The place in the queue is left by letting go of the wait.
        signal = signals.next() => return Ok(status_code(KILLED + signal)),
    };
    let mount = leases.mount(0).ok_or_else(|| Failure::new(Kind::Other, "no volume was leased"))?;
    let plan = Plan { mount, target, command: arguments.command };
    let kept = leases.inheritable()?;
    let started = children::start(&plan, kept);
    let ended = match started {
        Ok(child) => child.wait(&mut signals).await,
        Err(failure) => {
            leases.discard().await?;
            return Err(failure);
        }
    };
    let (outcome, code) = match &ended {
        Ok(ended) => (outcome(ended.status, ended.told_to_end), code(ended.status)),
        Err(_) => (Outcome::Killed, 0),
    };
    for notice in leases.conclude(outcome).await? {
        eprintln!("larder: {notice}");
    }
    finish(&volumes, &name).await;
    ended.map(|_| status_code(code))
}

/// Writes down what a longer-lived process would write down a little later.
async fn finish(volumes: &VolumeManager, name: &VolumeName) {
    if let Err(error) = volumes.settle(name.key()).await {
        eprintln!("larder: the volume's statistics were not written: {error}");
    }
}

fn lease_request(name: VolumeName, arguments: &RunArguments) -> LeaseRequest {
    let sharing = match arguments.sharing {
        arguments::Sharing::Shared => Sharing::Shared,
        arguments::Sharing::Locked => Sharing::Locked,
        arguments::Sharing::Private => Sharing::Private,
        arguments::Sharing::Ro => Sharing::ReadOnly,
    };
    let RunArguments { uid, gid, mode, .. } = *arguments;
    let mut mount = MountRequest::new(name, sharing);
    mount.readonly = sharing == Sharing::ReadOnly;
    mount.root = RootAttributes { uid, gid, mode };
    mount.target = arguments.target.display().to_string();
    let words: Vec<_> = arguments.command.iter().map(|word| word.to_string_lossy()).collect();
    let holder = Label { build: "larder volume run".to_owned(), step: words.join(" ") };
    LeaseRequest { mounts: vec![mount], holder }
}

/// Returns where the volume is to be seen, made if there is nothing.
fn make_target(target: &Path) -> Result<HostPath, Failure> {
    let cannot = || format!("cannot mount at `{}`", target.display());
    std::fs::create_dir_all(target).map_err(|error| Failure::because(cannot(), error))?;
    // Links on the way are followed now: the mount has to be where the command will look.
    let real: PathBuf = target.canonicalize().map_err(|error| Failure::because(cannot(), error))?;
    HostPath::new(real).map_err(|error| Failure::because(cannot(), error))
}

/// Returns what the end of a command means to what it wrote.
fn outcome(status: ExitStatus, told_to_end: bool) -> Outcome {
    match status.code() {
        Some(0) => Outcome::Succeeded,
        Some(_) if !told_to_end => Outcome::Failed,
        _ => Outcome::Killed,
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| KILLED + status.signal().unwrap_or_default())
}

fn status_code(code: i32) -> ExitCode {
    u8::try_from(code).unwrap_or(u8::MAX).into()
}

/// Tells of waits on standard error.
struct Teller;

impl WaitObserver for Teller {
    fn waiting(&self, waiting: &Waiting) {
        eprintln!("larder: {}", waiting_text(waiting));
    }

    fn acquired(&self, volume: &VolumeName, waited: Duration) {
        eprintln!("larder: got volume `{volume}` after {}", shown_duration(waited));
    }
}

fn waiting_text(waiting: &Waiting) -> String {
    let held = |holder: &volumes::Holder| {
        let time = holder.since.elapsed().unwrap_or_default();
        format!("{holder} for {}", shown_duration(time))
    };
    let holders: Vec<_> = waiting.holders.iter().map(held).collect();
    let holders =
        if holders.is_empty() { "another process".to_owned() } else { holders.join(", ") };
    let place = match waiting.ahead {
        0 => "next in the queue".to_owned(),
        1 => "1 is ahead in the queue".to_owned(),
        ahead => format!("{ahead} are ahead in the queue"),
    };
    format!("waiting for volume `{}`, held by {holders}; {place}", waiting.volume)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn an_end_means_what_it_means_for_a_step() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let killed = ExitStatus::from_raw(9);
        assert_eq!((outcome(exited(0), false), code(exited(0))), (Outcome::Succeeded, 0));
        assert_eq!((outcome(exited(0), true), code(exited(0))), (Outcome::Succeeded, 0));
        assert_eq!((outcome(exited(3), false), code(exited(3))), (Outcome::Failed, 3));
        assert_eq!((outcome(exited(3), true), code(exited(3))), (Outcome::Killed, 3));
        assert_eq!((outcome(killed, false), code(killed)), (Outcome::Killed, 137));
    }

    #[test]
    fn a_wait_is_told_with_who_holds_and_the_place() {
        let label = Label { build: "larder volume run".into(), step: "uv sync".into() };
        let holder = volumes::Holder { pid: 7, label, since: SystemTime::now() };
        let waiting = Waiting {
            volume: VolumeName::new("default", "uv").unwrap(),
            holders: vec![holder],
            ahead: 1,
            waited: Duration::ZERO,
        };
        assert_eq!(
            waiting_text(&waiting),
            "waiting for volume `default/uv`, held by step `uv sync` of build `larder volume run` \
             (process 7) for 0s; 1 is ahead in the queue"
        );
    }
}
