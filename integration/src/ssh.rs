//! Keys that a client has in an agent, and a server that lets in who has one.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{Lines, Program, Running};

const PATIENCE: Duration = Duration::from_secs(30);
/// Where a server puts the processes that have no rights yet.
const EMPTY: &str = "/run/sshd";

/// A real agent with one key; it ends when this is dropped.
#[derive(Debug)]
pub struct SshAgent {
    directory: TempDir,
    _running: Running,
}

impl SshAgent {
    /// Starts an agent with a new key, which is known as `comment`.
    ///
    /// # Errors
    /// Fails if the key cannot be made or the agent does not come up.
    pub fn start(comment: &str) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("larder-ssh-")?;
        let socket = directory.path().join("agent");
        let running = Program::new("ssh-agent").args(["-D", "-a"]).arg(&socket).spawn()?;
        running.stdout.wait_for(PATIENCE, |line| line.contains("SSH_AUTH_SOCK"));
        let key = directory.path().join("key");
        make_key(&key, comment)?;
        Program::new("ssh-add").env("SSH_AUTH_SOCK", &socket).arg(&key).succeed()?;
        Ok(Self { directory, _running: running })
    }

    /// Returns where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// Returns the file with the public half of its key.
    pub fn public_key(&self) -> PathBuf {
        self.directory.path().join("key.pub")
    }
}

/// A real server on a loopback port, in which root runs what is asked for; it ends when this is dropped.
#[derive(Debug)]
pub struct SshServer {
    port: u16,
    log: Lines,
    _running: Running,
    _directory: TempDir,
}

impl SshServer {
    /// Starts a server that lets in who has one of the keys in a file.
    ///
    /// # Errors
    /// Fails if it does not come up.
    pub fn start(public_keys: &Path) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("larder-sshd-")?;
        let host_key = directory.path().join("host");
        make_key(&host_key, "host")?;
        fs::create_dir_all(EMPTY)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = directory.path().join("config");
        let text = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             AuthenticationMethods publickey\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             StrictModes no\nUsePAM no\n",
            host_key.display(),
            public_keys.display()
        );
        fs::write(&config, text)?;
        let log = Lines::default();
        let running = Program::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .logged_to(&log)
            .spawn()
            .context("`sshd` is in the package `openssh-server`")?;
        let server = Self { port, log, _running: running, _directory: directory };
        server.wait()?;
        Ok(server)
    }

    /// Returns the address of a directory of this machine, as git writes it.
    pub fn url(&self, directory: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, directory.display())
    }

    fn wait(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            anyhow::ensure!(started.elapsed() < PATIENCE, "sshd does not come up: {:?}", self.log);
            self.log.wait_for_more(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn make_key(path: &Path, comment: &str) -> anyhow::Result<()> {
    let program = Program::new("ssh-keygen");
    program.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path).succeed()?;
    Ok(())
}
