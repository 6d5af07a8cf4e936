//! A small web server on this machine that does what a test says.
#![allow(unreachable_pub, reason = "a test binary has no outside")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tasks::Task;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Reads what a CGI program wrote.
    pub fn of_program(output: &[u8]) -> Self {
        let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let mut answer = Self::ok(&output[end + 4..]);
        for line in String::from_utf8_lossy(&output[..end]).lines() {
            match line.split_once(": ").unwrap() {
                ("Status", status) => answer.status = status[..3].parse().unwrap(),
                (name, value) => answer = answer.header(name, value),
            }
        }
        answer
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", self.status);
        if !self.headers.iter().any(|(name, _)| name == "Content-Length") {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }
}

type Behaviour = Arc<dyn Fn(Asked) -> BoxFuture<'static, Answer> + Send + Sync>;

pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: Task<()>,
}

impl Server {
    pub async fn start(behave: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::run(Arc::new(move |asked| {
            let answer = behave(&asked);
            Box::pin(async move { answer })
        }))
        .await
    }

    pub async fn run(behave: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let serve = async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let one = connection(stream, behave.clone(), log.clone());
                connections.push(tasks::spawn("connection", one));
            }
        };
        Self { port, asked, _task: tasks::spawn("server", serve) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Ends the server, and returns an address where nobody is any more.
    pub fn stop(self) -> String {
        self.url("/")
    }
}

async fn connection(stream: TcpStream, behave: Behaviour, log: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    let Some(asked) = read(&mut stream).await else { return };
    log.lock().push(asked.clone());
    let is_head = asked.method == "HEAD";
    let mut answer = behave(asked).await;
    if is_head {
        answer.body.clear();
    }
    let _ = stream.write_all(&answer.bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        ..Asked::default()
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    if asked.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            stream.read_exact(&mut chunk).await.ok()?;
            asked.body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = asked.header("content-length") {
        asked.body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut asked.body).await.ok()?;
    }
    Some(asked)
}
