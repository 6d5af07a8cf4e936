//! The keeper of one process: starts it, waits for it, cleans up after it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::ThreadNameSpaceType;

use super::Inheritance;
use super::child::{self, Cradle, Heritage, Sign};
use super::reason::Doing as _;
use super::stubs::{self, Stub};
use crate::linux::cgroup::{Cgroup, CgroupPlan};
use crate::linux::channel::Channel;
use crate::linux::frame::Frame;
use crate::linux::message::{Job, Preparation, ProcessPlan, Report, Request};
use crate::linux::sys::{self, Birth, Side};
use crate::{ExitStatus, SetupError};

/// The container that a keeper of a further process puts it in.
#[derive(Debug)]
pub(super) struct Container {
    /// Its first process.
    process: OwnedFd,
    cgroup: Option<CgroupPlan>,
}

/// Serves one connection, until its process and the connection have ended; a container's keeper begins
/// anew as often as that is asked for.
pub(super) fn keep(inheritance: &Inheritance, connection: OwnedFd, container: Option<&Container>) {
    let connection = Channel::new(connection);
    match serve(inheritance, connection, container) {
        Ok(mut idle) => {
            // What comes that is no job was for the process that has ended.
            while let Some(connection) = idle {
                idle = serve(inheritance, connection, container).unwrap_or_default();
            }
        }
        Err(error) => eprintln!("larder-step: {error}"),
    }
}

/// Does one job. Returns the connection if the next one can come on it.
fn serve(
    inheritance: &Inheritance,
    connection: Channel,
    container: Option<&Container>,
) -> io::Result<Option<Channel>> {
    let Some(frame) = connection.receive::<Job>()? else { return Ok(None) };
    let Frame { message, descriptors, .. } = frame;
    match (message, container) {
        (Job::Start(preparation), _) => start(inheritance, connection, *preparation),
        (Job::Exec(plan), Some(container)) => {
            exec(inheritance, connection, &plan, container, descriptors)
        }
        (Job::Exec(_), None) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn start(
    inheritance: &Inheritance,
    connection: Channel,
    preparation: Preparation,
) -> io::Result<Option<Channel>> {
    let cgroup = preparation.cgroup.clone().map(Cgroup::create);
    let mut namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if preparation.shape.own_network {
        namespaces |= libc::CLONE_NEWNET;
    }
    let birth =
        Birth { namespaces, cgroup: cgroup.as_ref().and_then(Cgroup::unified), sibling: false };
    let (ours, signs) = Channel::pair()?;
    let born = sys::clone(&inheritance.witness, &birth).or_else(|error| match birth.cgroup {
        // A group that takes no processes is no reason to fail.
        Some(_) => sys::clone(&inheritance.witness, &Birth { cgroup: None, ..birth }),
        None => Err(error),
    });
    let process = match born {
        Ok(Side::Child) => {
            drop(ours);
            child::live(Cradle { inheritance, signs, orders: connection }, &preparation)
        }
        Ok(Side::Parent(process)) => process,
        Err(error) => return fail(&connection, "create the namespaces", &error),
    };
    drop(signs);
    let ward = Ward {
        connection,
        process: Some(process),
        root: None,
        stubs: Vec::new(),
        remove_stub_parents: false,
        cgroup,
        cgroup_plan: preparation.cgroup,
        reusable: true,
    };
    ward.watch(inheritance, ours)
}

fn fail(connection: &Channel, step: &str, error: &io::Error) -> io::Result<Option<Channel>> {
    let error = SetupError::Step { step: step.to_owned(), reason: error.to_string() };
    connection.send(&Report::Failed(error), &[]).map(|()| None)
}

fn exec(
    inheritance: &Inheritance,
    connection: Channel,
    plan: &ProcessPlan,
    container: &Container,
    streams: Vec<OwnedFd>,
) -> io::Result<Option<Channel>> {
    let (ours, signs) = Channel::pair()?;
    match sys::fork(&inheritance.witness) {
        Ok(Side::Child) => {
            drop(ours);
            step_in(Heritage { inheritance, signs, streams }, plan, container)
        }
        Ok(Side::Parent(())) => {}
        Err(error) => return fail(&connection, "fork", &error),
    }
    drop((signs, streams));
    let ward = Ward {
        connection,
        process: None,
        root: None,
        stubs: Vec::new(),
        remove_stub_parents: false,
        cgroup: None,
        cgroup_plan: container.cgroup.clone(),
        reusable: false,
    };
    ward.watch(inheritance, ours)
}

/// Enters the container's namespaces, leaves the keeper a child in them, and ends. The keeper itself
/// stays outside, so that it holds nothing of the container.
fn step_in(heritage: Heritage<'_>, plan: &ProcessPlan, container: &Container) -> ! {
    let born = enter_namespaces(container).and_then(|()| {
        let birth = Birth { sibling: true, ..Birth::default() };
        sys::clone(&heritage.inheritance.witness, &birth).doing("fork inside the container")
    });
    let (sign, process) = match born {
        Ok(Side::Child) => child::live_along(heritage, plan),
        Ok(Side::Parent(process)) => (Sign::Born, Some(process)),
        Err(error) => (Sign::Failed(error), None),
    };
    let descriptors: Vec<_> = process.iter().map(AsFd::as_fd).collect();
    // If the keeper does not hear it, it is dying, and its child with it.
    let _ = heritage.signs.send(&sign, &descriptors);
    sys::exit_now(0)
}

fn enter_namespaces(container: &Container) -> Result<(), SetupError> {
    // What is in the container shall not look into us before we have become the command.
    let hidden = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(hidden).doing("hide from the container")?;
    Cgroup::join(container.cgroup.as_ref());
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(container.process.as_fd(), all)
        .doing("enter the container")
}

/// What a keeper looks after.
#[derive(Debug)]
struct Ward {
    connection: Channel,
    process: Option<OwnedFd>,
    /// The container's root, kept to clean up in it.
    root: Option<OwnedFd>,
    stubs: Vec<Stub>,
    remove_stub_parents: bool,
    cgroup: Option<Cgroup>,
    cgroup_plan: Option<CgroupPlan>,
    /// True if nothing is left of the process when it has ended, so that the next one can be kept.
    reusable: bool,
}

impl Ward {
    /// Watches over the process from its birth to its end. Returns the connection if the keeper can keep
    /// another one.
    fn watch(mut self, inheritance: &Inheritance, signs: Channel) -> io::Result<Option<Channel>> {
        let report = match self.attend_birth(&signs) {
            Ok(terminal) => {
                drop(signs);
                self.report_start(terminal)?;
                self = self.accompany(inheritance)?;
                None
            }
            Err(error) => {
                self.reusable = false;
                Some(Report::Failed(error))
            }
        };
        let status = self.wait()?;
        self.clean_up();
        self.report(&report.unwrap_or(Report::Exited(status)), &[])?;
        Ok(self.reusable.then_some(self.connection))
    }

    /// Listens to the child until it has become the command; returns its terminal.
    fn attend_birth(&mut self, signs: &Channel) -> Result<Option<OwnedFd>, SetupError> {
        let (mut terminal, mut killed) = (None, false);
        loop {
            if !killed && !self.hear_first(signs).doing("wait for the child")? {
                self.kill();
                killed = true;
            }
            let Some(mut frame) = signs.receive::<Sign>().doing("hear the child")? else { break };
            match frame.message {
                Sign::Born => self.process = frame.descriptors.pop(),
                Sign::Prepared => self.report(&Report::Prepared, &[]).doing("report")?,
                Sign::Terminal => terminal = frame.descriptors.pop(),
                Sign::Created { stubs, remove_parents } => {
                    self.stubs = stubs;
                    self.remove_stub_parents = remove_parents;
                    self.root = frame.descriptors.pop();
                }
                Sign::Failed(error) => return Err(error),
            }
        }
        if self.process.is_none() {
            return Err("it vanished").doing("enter the container");
        }
        Ok(terminal)
    }

    /// Waits; returns false if the connection has ended and the child has nothing to say. What comes on
    /// the connection is the child's plan, and no business of ours.
    fn hear_first(&self, signs: &Channel) -> io::Result<bool> {
        let mut polled =
            [PollFd::new(signs, PollFlags::IN), PollFd::new(&self.connection, PollFlags::RDHUP)];
        wait_for(&mut polled)?;
        let [signs, _] = polled;
        Ok(!signs.revents().is_empty())
    }

    fn report_start(&self, terminal: Option<OwnedFd>) -> io::Result<()> {
        let descriptors = self.process.iter().chain(&terminal).map(AsFd::as_fd);
        let descriptors: Vec<_> = descriptors.collect();
        self.report(&Report::Started, &descriptors)
    }

    /// Tells the daemon, if it still wants to hear it.
    fn report(&self, report: &Report, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self.connection.send(report, descriptors) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }

    /// Serves the connection until the process has ended.
    fn accompany(mut self, inheritance: &Inheritance) -> io::Result<Self> {
        let mut connected = true;
        while let Some(process) = &self.process {
            let mut polled =
                [PollFd::new(process, PollFlags::IN), PollFd::new(&self.connection, PollFlags::IN)];
            let count = if connected { 2 } else { 1 };
            wait_for(polled.get_mut(..count).unwrap_or_default())?;
            let [ended, asked] = polled.map(|fd| !fd.revents().is_empty());
            if ended {
                break;
            }
            if !asked {
                continue;
            }
            match self.connection.receive::<Request>() {
                Ok(Some(Frame { message: Request::Keep, mut descriptors, .. })) => {
                    if let Some(connection) = descriptors.pop() {
                        self = self.keep_another(inheritance, connection);
                    }
                }
                Ok(None) | Err(_) => {
                    self.kill();
                    connected = false;
                }
            }
        }
        Ok(self)
    }

    /// Forks a keeper for a further process in the same container.
    fn keep_another(self, inheritance: &Inheritance, connection: OwnedFd) -> Self {
        match sys::fork(&inheritance.witness) {
            Ok(Side::Child) => {
                // Everything else is let go, above all the root.
                let Self { process, cgroup_plan, .. } = self;
                if let Some(process) = process {
                    let container = Container { process, cgroup: cgroup_plan };
                    keep(inheritance, connection, Some(&container));
                }
                sys::exit_now(0)
            }
            // Of its end nobody takes notice before we end.
            Ok(Side::Parent(())) => Self { reusable: false, ..self },
            // The daemon sees its connection close.
            Err(_) => self,
        }
    }

    fn kill(&self) {
        if let Some(process) = &self.process {
            // It may have ended by itself.
            let _ = sys::pidfd_send_signal(process.as_fd(), libc::SIGKILL);
        }
    }

    /// Waits for the process. When the first process of a container is gone, all others are.
    fn wait(&self) -> io::Result<ExitStatus> {
        let Some(process) = &self.process else { return Ok(ExitStatus::Signal(libc::SIGKILL)) };
        let status = loop {
            match waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) => {}
                done => break done?,
            }
        };
        let code = status.as_ref().and_then(rustix::process::WaitIdStatus::exit_status);
        let signal = status.as_ref().and_then(rustix::process::WaitIdStatus::terminating_signal);
        let killed = signal == Some(libc::SIGKILL) || code == Some(128 + libc::SIGKILL);
        if killed && self.cgroup.as_ref().is_some_and(Cgroup::ran_out_of_memory) {
            return Ok(ExitStatus::OutOfMemory);
        }
        Ok(match (code.and_then(|code| u8::try_from(code).ok()), signal) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, signal) => ExitStatus::Signal(signal.unwrap_or(libc::SIGKILL)),
        })
    }

    fn clean_up(&mut self) {
        if let Some(root) = self.root.take() {
            stubs::remove(root.as_fd(), &self.stubs, self.remove_stub_parents);
        }
        if let Some(cgroup) = self.cgroup.take() {
            cgroup.remove();
        }
    }
}

fn wait_for(polled: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done.map(drop)?),
        }
    }
}
