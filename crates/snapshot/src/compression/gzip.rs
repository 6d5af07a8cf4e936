//! Gzip by several threads: each mebibyte becomes a member of its own, in order.
//!
//! The members do not depend on who compresses them, so the bytes are the same on one core and on
//! many. Every reader of gzip takes several members as one stream.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::Compression as Level;
use flate2::write::GzEncoder;

/// How much one member holds. It is part of what makes the bytes what they are: never change it.
const BLOCK: usize = 1 << 20;
/// More threads than this do not pay for one archive beside others.
const MOST_WORKERS: usize = 8;

/// Writes gzip; the last member is written by [`GzipWriter::finish`].
pub(super) struct GzipWriter<W> {
    inner: W,
    level: Level,
    block: Vec<u8>,
    members: usize,
    /// None until there is a second block: most layers are small.
    workers: Option<Workers>,
    /// Members on their way, oldest first.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
}

impl<W: Write> GzipWriter<W> {
    pub(super) fn new(inner: W, level: u32) -> Self {
        let (block, pending) = (Vec::new(), VecDeque::new());
        Self { inner, level: Level::new(level), block, members: 0, workers: None, pending }
    }

    pub(super) fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.send_block()?;
        }
        let count = buffer.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn send_block(&mut self) -> io::Result<()> {
        let workers = match &self.workers {
            Some(workers) => workers,
            None => self.workers.insert(Workers::start(self.level)?),
        };
        while self.pending.len() >= workers.threads.len() * 2 {
            receive(&mut self.pending, &mut self.inner)?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.pending.push_back(workers.compress(block)?);
        self.members += 1;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        while !self.pending.is_empty() {
            receive(&mut self.pending, &mut self.inner)?;
        }
        // Nothing at all is one empty member.
        if self.members == 0 || !self.block.is_empty() {
            self.inner.write_all(&member(&self.block, self.level)?)?;
        }
        Ok(self.inner)
    }
}

/// Writes the oldest member that is on its way.
fn receive<W: Write>(
    pending: &mut VecDeque<Receiver<io::Result<Vec<u8>>>>,
    inner: &mut W,
) -> io::Result<()> {
    let Some(next) = pending.pop_front() else { return Ok(()) };
    let compressed = next.recv().map_err(|_| io::Error::other("a compressing thread ended"))??;
    inner.write_all(&compressed)
}

fn member(block: &[u8], level: Level) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(block.len() / 2), level);
    encoder.write_all(block)?;
    encoder.finish()
}

/// A block, and where its member goes.
type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

/// Threads that compress blocks for one writer, and end with it. They are threads of their own, and no
/// tasks, because the writer waits for them while it occupies a thread for blocking work itself.
struct Workers {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(level: Level) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
        let (sender, receiver) = sync_channel::<Job>(count);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut workers = Self { jobs: Some(sender), threads: Vec::new() };
        for _ in 0..count {
            let jobs = receiver.clone();
            let work = move || while compress_next(&jobs, level).is_some() {};
            workers.threads.push(std::thread::Builder::new().name("gzip".into()).spawn(work)?);
        }
        Ok(workers)
    }

    fn compress(&self, block: Vec<u8>) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
        let (sender, receiver) = channel();
        let ended = || io::Error::other("the compressing threads ended");
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send((block, sender)).map_err(|_| ended())?;
        Ok(receiver)
    }
}

/// Compresses one block; none when there will be no more.
fn compress_next(jobs: &Mutex<Receiver<Job>>, level: Level) -> Option<()> {
    // The lock is held while waiting: exactly one thread waits for the channel, the others for it.
    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let (block, done) = job.ok()?;
    // If nobody wants it any more, the writer is gone and the channel ends next.
    let _ = done.send(member(&block, level));
    Some(())
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked was noticed where its member was missed.
            let _ = thread.join();
        }
    }
}
