//! The guard on a started process.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::termios::Winsize;
use serde::Serialize;
use tasks::Task;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, watch};

use super::channel::socket_pair;
use super::farewell::{Farewell, Release};
use super::frame::Frame;
use super::link::Link;
use super::message::{Job, ProcessPlan, Report, Request};
use super::streams::{self, Streams};
use super::sys;
use crate::{
    ContainerId, ExecSpec, ExecutorError, ExitStatus, Held, ProcessIo, Running, Signal,
    TerminalSize,
};

/// How far a process is.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// It runs.
    Running,
    /// It ended, and nothing is left of it but perhaps output on its way.
    Ended(ExitStatus),
    /// It ended, and everything it wrote was delivered.
    Delivered(ExitStatus),
    /// Its keeper vanished.
    Lost(io::ErrorKind),
}

/// A process with a keeper.
#[derive(Debug)]
pub(crate) struct LinuxRunning {
    id: ContainerId,
    process: OwnedFd,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Held while a request is sent.
    sending: Mutex<()>,
    phase: watch::Receiver<Phase>,
    /// Stops before the farewell, which is said on the same connection.
    _supervisor: Task<()>,
    /// Dropped with the guard: then the keeper kills.
    farewell: Farewell,
}

/// What a process is to be, to be said on the connection to its keeper.
#[derive(Debug)]
pub(crate) struct Order<'a, T> {
    /// The description.
    pub message: &'a T,
    /// The raw bytes with it.
    pub bytes: &'a [u8],
    /// True if the process gets a terminal.
    pub tty: bool,
}

fn contact(
    id: &ContainerId,
    doing: &'static str,
) -> impl FnOnce(io::Error) -> ExecutorError + use<> {
    let id = id.to_string();
    move |source| ExecutorError::Contact { id, doing, source }
}

/// Waits until the container at the other end of `link` is ready for its plan.
pub(crate) async fn ready(id: &ContainerId, link: &Link) -> Result<(), ExecutorError> {
    let report = link.receive::<Report>().await.map_err(contact(id, "waiting for it"))?;
    match report.map(|frame| frame.message) {
        Some(Report::Prepared) => Ok(()),
        Some(Report::Failed(error)) => Err(error.into()),
        Some(Report::Started | Report::Exited(_)) | None => {
            Err(contact(id, "waiting for it")(io::ErrorKind::UnexpectedEof.into()))
        }
    }
}

/// Gives an order and waits until the process runs.
pub(crate) async fn start<T: Serialize + Sync>(
    id: ContainerId,
    farewell: Farewell,
    order: Order<'_, T>,
    io: ProcessIo,
) -> Result<LinuxRunning, ExecutorError> {
    let link = farewell.link().clone();
    let Order { message, bytes, tty } = order;
    let contact = |doing| contact(&id, doing);
    let (io, pipes, theirs) = if tty {
        (Some(io), None, Vec::new())
    } else {
        let (streams, theirs) = Streams::pipes(io).map_err(contact("making its pipes"))?;
        (None, Some(streams), theirs)
    };
    let descriptors: Vec<_> = theirs.iter().map(|stream| stream.as_fd()).collect();
    link.send(message, bytes, &descriptors).await.map_err(contact("describing the process"))?;
    drop(theirs);
    let report = link.receive::<Report>().await.map_err(contact("waiting for its start"))?;
    let ended = || contact("waiting for its start")(io::ErrorKind::UnexpectedEof.into());
    let Frame { message, descriptors, .. } = report.ok_or_else(ended)?;
    match message {
        Report::Failed(error) => {
            farewell.release().failed();
            return Err(error.into());
        }
        Report::Exited(_) | Report::Prepared => return Err(ended()),
        Report::Started => {}
    }
    let mut descriptors = descriptors.into_iter();
    let process = descriptors.next().ok_or_else(ended)?;
    let terminal = descriptors.next().map(streams::stream).transpose();
    let terminal = terminal.map_err(contact("watching its terminal"))?;
    let streams = match (pipes, io, &terminal) {
        (Some(streams), _, _) => streams,
        (None, Some(io), Some(terminal)) => Streams::terminal(io, terminal),
        (None, _, _) => return Err(ended()),
    };
    Ok(LinuxRunning::supervised(id, farewell, process, terminal, streams))
}

impl LinuxRunning {
    fn supervised(
        id: ContainerId,
        farewell: Farewell,
        process: OwnedFd,
        terminal: Option<Arc<AsyncFd<OwnedFd>>>,
        streams: Streams,
    ) -> Self {
        let (sender, phase) = watch::channel(Phase::Running);
        let supervisor = tasks::spawn(
            "process",
            supervise(farewell.link().clone(), farewell.release(), streams, sender),
        );
        let sending = Mutex::new(());
        Self { id, process, terminal, sending, phase, _supervisor: supervisor, farewell }
    }

    fn not_running(&self) -> ExecutorError {
        ExecutorError::NotRunning(self.id.to_string())
    }

    async fn reach(
        &self,
        reached: impl Fn(Phase) -> Option<ExitStatus> + Send,
    ) -> Result<ExitStatus, ExecutorError> {
        let lost = |kind: io::ErrorKind| ExecutorError::Contact {
            id: self.id.to_string(),
            doing: "waiting for its end",
            source: kind.into(),
        };
        let mut phase = self.phase.clone();
        let ended = |phase: &Phase| matches!(phase, Phase::Lost(_)) || reached(*phase).is_some();
        let last = *phase.wait_for(ended).await.map_err(|_| lost(io::ErrorKind::Interrupted))?;
        match (last, reached(last)) {
            (Phase::Lost(kind), _) => Err(lost(kind)),
            (_, Some(status)) => Ok(status),
            (_, None) => Err(lost(io::ErrorKind::Interrupted)),
        }
    }
}

/// Moves the streams and waits for the keeper's last word.
async fn supervise(
    link: Arc<Link>,
    release: Release,
    streams: Streams,
    phase: watch::Sender<Phase>,
) {
    let mut delivery = std::pin::pin!(streams.run());
    let mut delivered = false;
    let mut last_word = std::pin::pin!(link.receive::<Report>());
    let report = loop {
        tokio::select! {
            report = &mut last_word => break report,
            () = &mut delivery, if !delivered => delivered = true,
        }
    };
    let status = match report.map(|frame| frame.map(|frame| frame.message)) {
        Ok(Some(Report::Exited(status))) => Ok(status),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof),
        Err(error) => Err(error.kind()),
    };
    let status = match status {
        Ok(status) => status,
        Err(kind) => {
            phase.send_replace(Phase::Lost(kind));
            return;
        }
    };
    release.done();
    phase.send_replace(Phase::Ended(status));
    if !delivered {
        delivery.await;
    }
    phase.send_replace(Phase::Delivered(status));
}

#[async_trait]
impl Running for LinuxRunning {
    fn id(&self) -> &ContainerId {
        &self.id
    }

    async fn wait(&self) -> Result<ExitStatus, ExecutorError> {
        self.reach(|phase| match phase {
            Phase::Delivered(status) => Some(status),
            Phase::Running | Phase::Ended(_) | Phase::Lost(_) => None,
        })
        .await
    }

    async fn stop(&self) -> Result<ExitStatus, ExecutorError> {
        // If it has ended by itself, that is as good.
        let _ = self.signal(Signal::KILL);
        self.reach(|phase| match phase {
            Phase::Ended(status) | Phase::Delivered(status) => Some(status),
            Phase::Running | Phase::Lost(_) => None,
        })
        .await
    }

    fn signal(&self, signal: Signal) -> Result<(), ExecutorError> {
        sys::pidfd_send_signal(self.process.as_fd(), signal.number())
            .map_err(|_| self.not_running())
    }

    fn resize(&self, size: TerminalSize) -> Result<(), ExecutorError> {
        let none = || ExecutorError::NoTerminal(self.id.to_string());
        let terminal = self.terminal.as_ref().ok_or_else(none)?;
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal.get_ref(), size).map_err(|_| self.not_running())
    }

    async fn exec(&self, spec: ExecSpec, io: ProcessIo) -> Result<Box<dyn Running>, ExecutorError> {
        let plan = ProcessPlan::try_from(spec)?;
        let tty = plan.tty;
        let (ours, theirs) = socket_pair().map_err(|_| self.not_running())?;
        let link = Link::new(ours).map_err(|_| self.not_running())?;
        {
            let _alone = self.sending.lock().await;
            let sent = self.farewell.link().send(&Request::Keep, &[], &[theirs.as_fd()]).await;
            sent.map_err(|_| self.not_running())?;
        }
        drop(theirs);
        let job = Job::Exec(Box::new(plan));
        let farewell = Farewell::new(Arc::new(link), Held::default(), None);
        let order = Order { message: &job, bytes: &[], tty };
        match start(self.id.clone(), farewell, order, io).await {
            // The keeper ended before it read the request.
            Err(ExecutorError::Contact { .. }) => Err(self.not_running()),
            done => Ok(Box::new(done?)),
        }
    }
}
