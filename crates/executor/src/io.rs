//! Where a process reads from and writes to.

use bytes::Bytes;
use tokio::sync::mpsc;

/// The three streams of a process.
///
/// With a terminal, everything comes out of `stdout`, and `stderr` stays silent.
#[derive(Debug)]
pub struct ProcessIo {
    /// What the process reads.
    pub stdin: Input,
    /// What it says.
    pub stdout: Output,
    /// What it says besides.
    pub stderr: Output,
}

impl ProcessIo {
    /// Returns streams that hold nothing and go nowhere.
    pub const fn null() -> Self {
        Self { stdin: Input::Null, stdout: Output::Discard, stderr: Output::Discard }
    }
}

/// What a process reads.
#[derive(Debug)]
pub enum Input {
    /// The end of file, at once.
    Null,
    /// These bytes, then the end of file once the sender is dropped.
    Chunks(mpsc::Receiver<Bytes>),
}

/// Where a process writes to.
#[derive(Debug)]
pub enum Output {
    /// Nowhere.
    Discard,
    /// Here, as it comes: when the channel is full the process waits; when its receiver is gone, the
    /// process goes on and what it writes is dropped.
    Chunks(mpsc::Sender<Bytes>),
}
