//! A socket for the BuildKit inside `dockerd`, which listens on none: it takes over connections to the
//! engine's API that ask for it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;

/// What turns a connection to the API into one to the BuildKit behind it.
const REQUEST: &[u8] = b"POST /grpc HTTP/1.1\r\nHost: engine\r\nUpgrade: h2c\r\n\
    Connection: Upgrade\r\nContent-Length: 0\r\n\r\n";
/// The longest answer to it that is read.
const ANSWER_LIMIT: usize = 16 << 10;

/// A socket whose connections are passed on to the BuildKit behind an engine's API.
#[derive(Debug)]
pub(crate) struct Relay {
    socket: PathBuf,
    stopping: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens at `socket` for what is meant for the engine at `api`.
    pub(crate) fn start(socket: PathBuf, api: PathBuf) -> anyhow::Result<Self> {
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen at {}", socket.display()))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let listener = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                // A connection that cannot be passed on is closed, and the client says so.
                let _ = pass_on(client, &api);
            }
        });
        Ok(Self { socket, stopping, listener: Some(listener) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // The listener looks up when somebody calls.
        let _ = UnixStream::connect(&self.socket);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Connects a client with the BuildKit behind the API; the two threads end with the connection.
fn pass_on(client: UnixStream, api: &Path) -> io::Result<()> {
    let mut engine = UnixStream::connect(api)?;
    engine.write_all(REQUEST)?;
    take_over(&mut engine)?;
    let (from_client, from_engine) = (client.try_clone()?, engine.try_clone()?);
    std::thread::spawn(move || copy(from_client, engine));
    std::thread::spawn(move || copy(from_engine, client));
    Ok(())
}

/// Reads the answer to the request, and no byte more.
fn take_over(engine: &mut UnixStream) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < ANSWER_LIMIT {
        engine.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    if answer.starts_with(b"HTTP/1.1 101 ") {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Err(io::Error::other(format!("the engine does not hand over: {answer}")))
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    // Either side may go at any time; the other one is told.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_connection_is_asked_for_and_passed_on() {
        let directory = TempDir::new().unwrap();
        let (api, socket) = (directory.path().join("api"), directory.path().join("socket"));
        let engine = UnixListener::bind(&api).unwrap();
        let engine = std::thread::spawn(move || {
            let (mut stream, _) = engine.accept().unwrap();
            let mut request = vec![0; REQUEST.len()];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request, REQUEST);
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\nhello ").unwrap();
            io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
        });
        let relay = Relay::start(socket.clone(), api).unwrap();
        let mut client = UnixStream::connect(&socket).unwrap();
        client.write_all(b"echo").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello echo");
        engine.join().unwrap();
        drop(relay);
    }

    #[test]
    fn a_refusal_closes_the_connection() {
        let directory = TempDir::new().unwrap();
        let (api, socket) = (directory.path().join("api"), directory.path().join("socket"));
        let engine = UnixListener::bind(&api).unwrap();
        let engine = std::thread::spawn(move || {
            let (mut stream, _) = engine.accept().unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
        });
        let _relay = Relay::start(socket.clone(), api).unwrap();
        let mut client = UnixStream::connect(&socket).unwrap();
        let mut said = Vec::new();
        // Closed, or reset because nobody read the request.
        let _ = client.read_to_end(&mut said);
        assert!(said.is_empty());
        engine.join().unwrap();
    }
}
