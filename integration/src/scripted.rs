//! A server that speaks ill on purpose: it answers each request with what a test wrote.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Such as `GET`.
    pub method: String,
    /// Such as `/v2/`.
    pub path: String,
}

/// What the server says.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Says less than it promised, and hangs up.
    cut: Option<usize>,
    /// Says this instead of anything that HTTP knows.
    raw: Option<Vec<u8>>,
}

impl Answer {
    /// Answers with a status and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None, raw: None }
    }

    /// Answers with a document.
    pub fn document(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }.header("Content-Type", media_type)
    }

    /// Answers with bytes that are no HTTP.
    pub fn garbage(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::status(200) }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Hangs up after this many bytes of the body.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    fn write(&self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<bool> {
        if let Some(raw) = &self.raw {
            stream.write_all(raw)?;
            return Ok(false);
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        stream.write_all(head.as_bytes())?;
        if !head_only {
            let said = self.cut.unwrap_or(self.body.len()).min(self.body.len());
            stream.write_all(&self.body[..said])?;
        }
        stream.flush()?;
        Ok(self.cut.is_none() || head_only)
    }
}

/// A server on a loopback port; it ends when this is dropped.
#[derive(Debug)]
pub struct Scripted {
    host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

impl Scripted {
    /// Serves what `script` says.
    ///
    /// # Errors
    /// Fails if there is no port.
    pub fn start(
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let host = listener.local_addr()?.to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let served = Self { host, asked: asked.clone(), ended: ended.clone() };
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (script, asked) = (script.clone(), asked.clone());
                // A client that hangs up in the middle is none of the server's business.
                std::thread::spawn(move || converse(stream, &*script, &asked).ok());
            }
        });
        Ok(served)
    }

    /// Returns its host with the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns what was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(&self.host));
    }
}

fn converse(
    stream: TcpStream,
    script: &impl Fn(&Asked) -> Answer,
    asked: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let length = read_headers(&mut reader)?;
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let question = Asked { method, path };
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
        let answer = script(&question);
        if !answer.write(&mut stream, question.method == "HEAD")? {
            return stream.shutdown(Shutdown::Both);
        }
    }
}

/// Reads to the end of the headers, and returns the length of the body.
fn read_headers(reader: &mut BufReader<TcpStream>) -> std::io::Result<u64> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(length) };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
}
