//! Signals that are meant for the command.

use std::io::IsTerminal as _;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::failure::Failure;

/// The signals that end programs or tell them something, as they come.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Stream,
    interrupt: Stream,
    quit: Stream,
    terminate: Stream,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::because("cannot listen to signals", error))
        };
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Returns the number of the next signal.
    pub(super) async fn next(&mut self) -> i32 {
        let signal = tokio::select! {
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
        };
        signal.as_raw()
    }
}

/// Returns true if the command has got the signal itself: what is typed at a terminal goes to all
/// programs in its foreground.
pub(super) fn is_shared(signal: i32) -> bool {
    let typed = [Signal::INT.as_raw(), Signal::QUIT.as_raw()].contains(&signal);
    let input = std::io::stdin();
    let foreground = || {
        let group = rustix::termios::tcgetpgrp(&input).ok();
        group.is_some() && group == rustix::process::getpgid(None).ok()
    };
    typed && input.is_terminal() && foreground()
}
