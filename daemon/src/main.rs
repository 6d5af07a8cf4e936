//! larderd: flags, configuration, assembly, gRPC services.
//!
//! [`config`] reads the world, [`assemble`] puts the parts together, [`listen`] and [`serve`] let
//! clients in, [`service`] answers them by [`wire`] conversions around the builder. What a build is,
//! and how it is done, is known to the crates below.

mod assemble;
mod config;
mod drain;
mod listen;
mod lock;
mod logging;
mod metrics;
mod platforms;
mod serve;
mod service;
mod tls;
mod version;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use futures::future::join_all;
use gateway::status;
use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit};
use sd_notify::NotifyState;
use tasks::{Shutdown, Task};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::assemble::Daemon;
use crate::config::{Config, Flags};
use crate::drain::Gate;

/// How long clients may take to end their calls when everything is done.
const FAREWELL: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Steps are set up by this same program, which must not have any thread then.
    executor::run_if_helper();
    let flags = Flags::parse();
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("larderd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<()> {
    let begun = Instant::now();
    let config = Config::load(flags)?;
    logging::open(&config.log);
    for note in &config.notes {
        tracing::info!("{note}");
    }
    prepare_process();
    // Before threads are started, because it changes the environment.
    let mut passed = ListenFd::from_env();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("larderd")
        .build()
        .context("cannot start")?;
    let ended = runtime.block_on(live(&config, &mut passed, begun));
    // What still runs now was not waited for: it need not be.
    runtime.shutdown_background();
    ended
}

/// Lets files have the modes that they are given, and opens as many of them as the system allows.
fn prepare_process() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::info!(%error, "the limit of open files was not raised");
    }
}

/// Serves until told to stop.
async fn live(config: &Config, passed: &mut ListenFd, begun: Instant) -> Result<()> {
    let mut signals = Signals::listen()?;
    let root = config.root.clone();
    let _lock = tasks::blocking("lock root", move || lock::take(&root)).await??;
    let daemon = assemble::assemble(config).await?;
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let listeners = listen::bind(&config.addresses, config.socket_owner, passed).await?;
    let (routes, health) = service::routes(daemon.services.clone());
    let ending = Shutdown::new();
    let clients = Gate::new();
    let mut servers: Vec<Task<()>> = Vec::new();
    for listener in listeners {
        tracing::info!(address = listener.describe(tls.as_ref()), "listening");
        let ending = ending.clone();
        let server = serve::serve(listener, tls.clone(), routes.clone(), ending, clients.clone());
        servers.push(tasks::spawn("listener", server));
    }
    let _metrics = serve_metrics(config, &daemon).await?;
    tracing::info!(
        version = version::OURS,
        root = %config.root,
        milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ready",
    );
    notify(&[NotifyState::Ready]);
    let builder = daemon.services.builder.clone();
    let _tidying = tasks::spawn("collect garbage", async move { builder.collect_garbage().await });
    signals.next().await;
    notify(&[NotifyState::Stopping]);
    drain(&daemon, &health, &mut signals, config.drain_timeout, &clients).await;
    ending.begin();
    if tokio::time::timeout(FAREWELL, join_all(&mut servers)).await.is_err() {
        tracing::debug!("some clients did not leave");
    }
    drop((servers, routes));
    daemon.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Lets those who watch the daemon ask for its numbers, if there is a place for it.
async fn serve_metrics(config: &Config, daemon: &Daemon) -> Result<Option<Task<()>>> {
    let Some(address) = config.metrics else { return Ok(None) };
    let listener = metrics::bind(address).await;
    let listener = listener.with_context(|| format!("cannot serve metrics on `{address}`"))?;
    tracing::info!(address = %listener.local_addr()?, "serving metrics");
    Ok(Some(tasks::spawn("metrics", metrics::serve(listener, daemon.services.clone()))))
}

/// Lets running builds finish: no longer than `limit`, and not beyond a second signal. Their clients get a
/// moment to ask what became of them.
async fn drain(
    daemon: &Daemon,
    health: &HealthReporter,
    signals: &mut Signals,
    limit: Duration,
    clients: &Gate,
) {
    let builds = daemon.services.gate.close();
    health.set_service_status("", ServingStatus::NotServing).await;
    if builds == 0 {
        return;
    }
    tracing::info!(builds, limit_seconds = limit.as_secs(), "waiting for running builds");
    tokio::select! {
        () = daemon.services.gate.empty() => tracing::info!("all builds have ended"),
        () = tokio::time::sleep(limit) => {
            tracing::warn!("builds are cut off: they took too long");
            return;
        }
        () = signals.next() => {
            tracing::info!("builds are cut off: told to stop twice");
            return;
        }
    }
    tokio::select! {
        () = clients.empty() => {}
        () = tokio::time::sleep(FAREWELL) => tracing::debug!("some clients stayed"),
        () = signals.next() => {}
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::info!(%error, "the service manager was not told");
    }
}

/// The signals that tell the daemon to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: listen(terminate)?, interrupt: listen(interrupt)? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
