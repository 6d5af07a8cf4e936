//! The helper: a process of one thread that mounts a volume where only it sees it, and becomes a command.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mount::{HostPath, Mount, MountSource, OverlayUpper, Syncing, detached};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::Signal;

use crate::failure::{Failure, Kind};

/// The first argument of a helper. No command is called so.
const HELPER: &str = "__mount";

/// What a helper is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) mount: Mount,
    pub(super) target: HostPath,
    /// The command and its arguments; not empty.
    pub(super) command: Vec<OsString>,
}

impl Plan {
    /// Returns the plan as arguments: target, access, upper and work directory (empty for none), the
    /// number of the other directories, these, and the command.
    fn encode(&self) -> Result<Vec<OsString>, Failure> {
        let (lower, upper) = match &self.mount.source {
            MountSource::Bind(path) => (std::slice::from_ref(path), None),
            MountSource::Overlay { lower, upper } => (&lower[..], upper.as_ref()),
            MountSource::Tmpfs { .. } => {
                return Err(Failure::new(Kind::Other, "a volume cannot be in memory"));
            }
        };
        let kind = match &self.mount.source {
            MountSource::Bind(_) => "bind",
            MountSource::Overlay { .. } | MountSource::Tmpfs { .. } => "overlay",
        };
        let path = |path: &HostPath| path.as_path().as_os_str().to_owned();
        let mut words = vec![
            path(&self.target),
            kind.into(),
            if self.mount.readonly { "ro" } else { "rw" }.into(),
            upper.map(|upper| path(&upper.upper)).unwrap_or_default(),
            upper.map(|upper| path(&upper.work)).unwrap_or_default(),
            lower.len().to_string().into(),
        ];
        words.extend(lower.iter().map(path));
        words.extend(self.command.iter().cloned());
        Ok(words)
    }

    /// Reads what [`Plan::encode`] has written; none for anything else.
    fn decode(words: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        let path = |word: OsString| HostPath::new(PathBuf::from(word)).ok();
        let target = path(words.next()?)?;
        let (kind, access) = (words.next()?, words.next()?);
        let (upper, work) = (words.next()?, words.next()?);
        let count: usize = words.next()?.to_str()?.parse().ok()?;
        let mut lower = Vec::new();
        for _ in 0..count {
            lower.push(path(words.next()?)?);
        }
        let source = match kind.to_str()? {
            "bind" if count == 1 => MountSource::Bind(lower.pop()?),
            "overlay" => {
                let layer = |upper, work| {
                    let syncing = Syncing::Kernel;
                    Some(OverlayUpper { upper: path(upper)?, work: path(work)?, syncing })
                };
                let upper = (!upper.is_empty()).then(|| layer(upper, work));
                let upper = match upper {
                    Some(upper) => Some(upper?),
                    None => None,
                };
                MountSource::Overlay { lower, upper }
            }
            _ => return None,
        };
        let readonly = match access.to_str()? {
            "ro" => true,
            "rw" => false,
            _ => return None,
        };
        let command: Vec<OsString> = words.collect();
        (!command.is_empty()).then_some(Self { mount: Mount { source, readonly }, target, command })
    }
}

/// Returns the process that is to be started for a plan.
pub(super) fn command(plan: &Plan) -> Result<tokio::process::Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::because("cannot find this program", error))?;
    let mut command = tokio::process::Command::new(program);
    command.arg(HELPER).arg(std::process::id().to_string()).args(plan.encode()?);
    Ok(command)
}

/// Does what a helper does, if this process was started as one; it does not return if all goes well.
pub(crate) fn run_if_helper() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != HELPER {
        return None;
    }
    let parent = words.next().and_then(|word| word.to_str()?.parse().ok());
    let failure = match (parent, Plan::decode(words)) {
        (Some(parent), Some(plan)) => become_command(parent, &plan),
        _ => Failure::new(Kind::Usage, "`__mount` is not for people").with_status(125),
    };
    eprintln!("larder: {}", failure.text());
    Some(failure.status())
}

/// Mounts the volume and becomes the command. Returns why not.
fn become_command(parent: u32, plan: &Plan) -> Failure {
    if let Err(failure) = prepare(parent, plan) {
        return failure.with_status(125);
    }
    let program = &plan.command[0];
    #[expect(clippy::disallowed_methods, reason = "nothing is started: this process becomes it")]
    let error = std::process::Command::new(program).args(&plan.command[1..]).exec();
    let status = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Failure::because(format!("cannot run `{}`", program.display()), error).with_status(status)
}

fn prepare(parent: u32, plan: &Plan) -> Result<(), Failure> {
    let failed =
        |what: &'static str| move |error| Failure::because(what, std::io::Error::from(error));
    // Who started us holds the lease: without them the command must not go on.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("cannot be tied to the lease"))?;
    let ours = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if ours != Some(parent) {
        return Err(Failure::new(Kind::Other, "the holder of the lease is gone"));
    }
    let directory = std::env::current_dir();
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| {
        Failure::because("cannot have mounts of its own (are you root?)", error)
    })?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("cannot keep mounts to itself"))?;
    let cannot = || format!("cannot mount the volume at `{}`", plan.target);
    let volume = detached::open(&plan.mount).map_err(|error| Failure::because(cannot(), error))?;
    volume.attach(&plan.target).map_err(|error| Failure::because(cannot(), error))?;
    if plan.mount.readonly {
        make_read_only(&plan.target)?;
    }
    // The directory we are in may be under the mount now; it is meant by its name.
    if let Ok(directory) = directory {
        let _ = std::env::set_current_dir(directory);
    }
    Ok(())
}

/// A bind mount is read-only only once it is told so.
fn make_read_only(target: &HostPath) -> Result<(), Failure> {
    use rustix::mount::{MountFlags, mount_remount};
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    let path: &Path = target.as_path();
    mount_remount(path, flags, OsStr::new("")).map_err(|error| {
        Failure::because(format!("cannot make `{target}` read-only"), std::io::Error::from(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> HostPath {
        HostPath::new(text).unwrap()
    }

    fn plan(source: MountSource, readonly: bool) -> Plan {
        let command = ["sh", "-c", "", "ro", "3"].map(OsString::from).into();
        Plan { mount: Mount { source, readonly }, target: path("/target"), command }
    }

    #[test]
    fn plans_round_trip() {
        let syncing = Syncing::Kernel;
        let upper = Some(OverlayUpper { upper: path("/u"), work: path("/w"), syncing });
        for source in [
            MountSource::Bind(path("/a b")),
            MountSource::Overlay { lower: vec![path("/x"), path("/y")], upper },
            MountSource::Overlay { lower: vec![path("/x")], upper: None },
        ] {
            for readonly in [true, false] {
                let plan = plan(source.clone(), readonly);
                assert_eq!(Plan::decode(plan.encode().unwrap()), Some(plan));
            }
        }
    }

    #[test]
    fn half_a_plan_is_none() {
        let words = plan(MountSource::Bind(path("/a")), false).encode().unwrap();
        for count in 0..8 {
            assert_eq!(Plan::decode(words[..count.min(7)].to_vec()), None, "{count}");
        }
    }
}
