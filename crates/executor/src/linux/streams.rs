//! What flows between the daemon and a process.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sys;
use crate::{Input, Output, ProcessIo};

/// A chunk of output is at most this long, which is what a pipe holds.
const CHUNK: usize = 64 << 10;

/// The daemon's side of a process's streams.
#[derive(Debug)]
pub(crate) struct Streams {
    stdin: Option<(Arc<Stream>, Input)>,
    outputs: Vec<(Arc<Stream>, Output)>,
}

type Stream = AsyncFd<OwnedFd>;

impl Streams {
    /// Makes pipes, and returns the process's side too.
    pub(crate) fn pipes(io: ProcessIo) -> io::Result<(Self, Vec<OwnedFd>)> {
        let mut theirs = Vec::with_capacity(3);
        let stdin = match io.stdin {
            Input::Null => {
                theirs.push(null()?);
                None
            }
            input @ Input::Chunks(_) => {
                let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                theirs.push(reader);
                Some((stream(writer)?, input))
            }
        };
        let mut outputs = Vec::new();
        for output in [io.stdout, io.stderr] {
            if matches!(output, Output::Discard) {
                theirs.push(null()?);
                continue;
            }
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            theirs.push(writer);
            outputs.push((stream(reader)?, output));
        }
        Ok((Self { stdin, outputs }, theirs))
    }

    /// Takes a terminal for all of them.
    pub(crate) fn terminal(io: ProcessIo, terminal: &Arc<Stream>) -> Self {
        let stdin = match io.stdin {
            Input::Null => None,
            input @ Input::Chunks(_) => Some((terminal.clone(), input)),
        };
        Self { stdin, outputs: vec![(terminal.clone(), io.stdout)] }
    }

    /// Moves bytes until the process has closed its side and everything was delivered.
    pub(crate) async fn run(self) {
        let outputs = self.outputs.into_iter();
        let outputs: Vec<BoxFuture<'_, ()>> = outputs
            .map(|(stream, output)| -> BoxFuture<'_, ()> { Box::pin(deliver(stream, output)) })
            .collect();
        let mut delivered = std::pin::pin!(futures::future::join_all(outputs));
        let Some((stream, input)) = self.stdin else {
            delivered.await;
            return;
        };
        tokio::select! {
            // What the process never read is no reason to wait.
            _ = &mut delivered => {}
            () = feed(stream, input) => { delivered.await; }
        }
    }
}

/// Makes a descriptor that does not block and that the runtime watches.
pub(crate) fn stream(descriptor: OwnedFd) -> io::Result<Arc<Stream>> {
    let flags = rustix::fs::fcntl_getfl(&descriptor)?;
    rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
    Ok(Arc::new(sys::watched(descriptor)?))
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

async fn deliver(stream: Arc<Stream>, output: Output) {
    let mut sink = match output {
        Output::Chunks(sender) => Some(sender),
        Output::Discard => None,
    };
    let mut buffer = BytesMut::new();
    loop {
        buffer.resize(CHUNK, 0);
        let read = |inner: &OwnedFd| Ok(rustix::io::read(inner.as_fd(), &mut buffer[..])?);
        match stream.async_io(Interest::READABLE, read).await {
            // A terminal says so by an error when its last user is gone.
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let chunk = if length < CHUNK / 8 {
                    Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())
                } else {
                    buffer.split_to(length).freeze()
                };
                if let Some(sender) = &sink
                    && sender.send(chunk).await.is_err()
                {
                    sink = None;
                }
            }
        }
    }
}

async fn feed(stream: Arc<Stream>, input: Input) {
    let Input::Chunks(mut chunks) = input else { return };
    while let Some(chunk) = chunks.recv().await {
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            let write = |inner: &OwnedFd| Ok(rustix::io::write(inner.as_fd(), rest)?);
            match stream.async_io(Interest::WRITABLE, write).await {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // The process reads no more.
                Err(_) => return,
            }
        }
    }
}
