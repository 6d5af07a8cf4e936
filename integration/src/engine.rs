//! The distribution's `dockerd`, for the BuildKit that is in it: the original, to compare with.
//!
//! It runs on directories of its own, without bridge and firewall rules, and is gone with the value. What
//! `integration/setup` unpacked is all it needs; nothing of the machine changes.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::leftovers::remove_cgroups;
use crate::relay::Relay;
use crate::{Lines, Program, Registry, Running, Settings};

/// How long it may take to come up, or to end, before it is taken for hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a connection is tried; each try waits for a line of the log or this long.
const TRIES: usize = 1200;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// A `dockerd` of the test's own.
#[derive(Debug)]
pub struct Engine {
    directory: TempDir,
    log: Lines,
    relay: Option<Relay>,
    running: Option<Running>,
}

impl Engine {
    /// Returns why there is none on this machine, if so.
    pub fn missing(settings: &Settings) -> Option<String> {
        let reason = settings.cache.join("engine-missing");
        if folder(settings).join("dockerd").is_file() {
            return None;
        }
        let reason = fs::read_to_string(reason).unwrap_or_default();
        Some(match reason.trim() {
            "" => "`integration/setup` was not run".to_owned(),
            reason => reason.to_owned(),
        })
    }

    /// Starts one that has `registry` for a mirror of the public one, and waits until it answers.
    ///
    /// # Errors
    /// Fails if it is not there, or does not come up; the error has its log.
    pub fn start(settings: &Settings, registry: &Registry) -> anyhow::Result<Self> {
        if let Some(reason) = Self::missing(settings) {
            anyhow::bail!("there is no `dockerd`: {reason}");
        }
        let directory = TempDir::with_prefix("larder-engine-").context("cannot make a root")?;
        let log = Lines::kept_in(File::create(directory.path().join("log"))?);
        let config = json!({
            "registry-mirrors": [format!("http://{}", registry.host())],
            "features": {"containerd-snapshotter": true},
        });
        fs::write(directory.path().join("config.json"), config.to_string())?;
        let mut engine = Self { directory, log, relay: None, running: None };
        engine.up(settings)?;
        let socket = engine.directory.path().join("buildkit");
        engine.relay = Some(Relay::start(socket, engine.api())?);
        Ok(engine)
    }

    /// Returns the address of its BuildKit.
    pub fn address(&self) -> String {
        format!("unix://{}", self.directory.path().join("buildkit").display())
    }

    /// Returns what it logged so far.
    pub fn log(&self) -> &Lines {
        &self.log
    }

    fn api(&self) -> PathBuf {
        self.directory.path().join("api")
    }

    fn up(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let place = self.directory.path();
        let option = |name: &str, path: &str| format!("--{name}={}", place.join(path).display());
        let mut running = Program::new(folder(settings).join("dockerd"))
            .env("PATH", settings.path_after(&folder(settings)))
            .env("TMPDIR", place)
            .arg(option("config-file", "config.json"))
            .arg(option("data-root", "root"))
            .arg(option("exec-root", "exec"))
            .arg(option("pidfile", "pid"))
            .arg(format!("--host=unix://{}", self.api().display()))
            .arg(format!("--cgroup-parent={}", cgroup_parent(place)))
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
                "--userland-proxy=false",
            ])
            .logged_to(&self.log)
            .spawn()?;
        for _ in 0..TRIES {
            if UnixStream::connect(self.api()).is_ok() {
                self.running = Some(running);
                return Ok(());
            }
            if running.has_ended() {
                break;
            }
            self.log.wait_for_more(BETWEEN_TRIES);
        }
        anyhow::bail!("`dockerd` does not come up:\n{:?}", self.log)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.relay = None;
        if let Some(mut running) = self.running.take() {
            let _ = running.signal(Signal::TERM);
            if running.ended(PATIENCE).is_err() {
                eprintln!("`dockerd` does not end:\n{:?}", self.log);
            }
        }
        // Its own containerd ends a moment after it.
        self.log.wait_for_end(PATIENCE);
        unmount_below(self.directory.path());
        remove_cgroups(&cgroup_parent(self.directory.path()));
    }
}

fn folder(settings: &Settings) -> PathBuf {
    settings.cache.join("engine")
}

fn cgroup_parent(place: &Path) -> String {
    place.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Unmounts what is still mounted below a directory, the last first.
fn unmount_below(place: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut points: Vec<_> = points.filter(|point| point.starts_with(place)).collect();
    points.reverse();
    for point in points {
        let _ = unmount(point, UnmountFlags::DETACH);
    }
}
