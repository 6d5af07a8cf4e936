//! Sockets to listen on.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::fs::{Gid, Mode, Uid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::config::{Address, Ownership};

/// A socket on which clients come.
#[derive(Debug)]
pub(crate) enum Listener {
    /// On this machine.
    Unix(UnixListener),
    /// From anywhere.
    Tcp(TcpListener),
}

/// A client that has come.
#[derive(Debug)]
pub(crate) enum Visitor {
    /// On this machine.
    Unix(UnixStream),
    /// From anywhere.
    Tcp(TcpStream),
}

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The system refuses.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// The address.
        address: Address,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another program listens there.
    #[error("cannot listen on `unix://{}`: another program does", .0.display())]
    InUse(PathBuf),
    /// The service manager passed no such socket.
    #[error("cannot listen on `{0}`: the service manager passed no such socket")]
    NotPassed(Address),
}

/// Opens all sockets. `passed` are those of the service manager.
pub(crate) async fn bind(
    addresses: &[Address],
    owner: Ownership,
    passed: &mut ListenFd,
) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let failed = |source| ListenError::Bind { address: address.clone(), source };
        match address {
            Address::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(ListenError::InUse(path.clone()));
                }
                listeners.push(bind_unix(path, owner).map_err(failed)?);
            }
            Address::Tcp(host) => listeners.push(bind_tcp(host).await.map_err(failed)?),
            Address::Descriptor(Some(index)) => {
                let listener = take(passed, *index).map_err(failed)?;
                listeners.push(listener.ok_or_else(|| ListenError::NotPassed(address.clone()))?);
            }
            Address::Descriptor(None) => {
                let before = listeners.len();
                for index in 0..passed.len() {
                    listeners.extend(take(passed, index).map_err(failed)?);
                }
                if listeners.len() == before {
                    return Err(ListenError::NotPassed(address.clone()));
                }
            }
        }
    }
    Ok(listeners)
}

/// Makes a socket that only its owner and group may use, from its first moment on.
fn bind_unix(path: &Path, owner: Ownership) -> io::Result<Listener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file that `bind` makes takes its mode from the socket.
    rustix::fs::fchmod(socket.as_fd(), Mode::from_raw_mode(0o660))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let (user, group) = (owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw));
    if user.is_some() || group.is_some() {
        rustix::fs::chown(path, user, group)?;
    }
    rustix::net::listen(&socket, 1024)?;
    Ok(Listener::Unix(UnixListener::from_std(socket.into())?))
}

/// `tcp://:1234` means all addresses, as with the reference.
async fn bind_tcp(host: &str) -> io::Result<Listener> {
    let host = match host.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => host.to_owned(),
    };
    Ok(Listener::Tcp(TcpListener::bind(host).await?))
}

/// Takes a socket of the service manager, whichever kind it is; none if it is not there.
fn take(passed: &mut ListenFd, index: usize) -> io::Result<Option<Listener>> {
    if index >= passed.len() {
        return Ok(None);
    }
    // A socket of the other kind is an error that leaves it where it is.
    if let Ok(Some(listener)) = passed.take_unix_listener(index) {
        listener.set_nonblocking(true)?;
        return Ok(Some(Listener::Unix(UnixListener::from_std(listener)?)));
    }
    match passed.take_tcp_listener(index)? {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            Ok(Some(Listener::Tcp(TcpListener::from_std(listener)?)))
        }
        None => Ok(None),
    }
}

impl Listener {
    /// Waits for a client.
    pub(crate) async fn accept(&self) -> io::Result<Visitor> {
        match self {
            Self::Unix(listener) => Ok(Visitor::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Visitor::Tcp(stream))
            }
        }
    }

    /// Returns where this is, for the log.
    pub(crate) fn describe(&self, tls: Option<&TlsAcceptor>) -> String {
        match self {
            Self::Unix(listener) => match listener.local_addr() {
                Ok(address) => address
                    .as_pathname()
                    .map_or("unix".to_owned(), |path| format!("unix://{}", path.display())),
                Err(_) => "unix".to_owned(),
            },
            Self::Tcp(listener) => {
                let address = listener.local_addr();
                let address =
                    address.map_or("tcp".to_owned(), |address| format!("tcp://{address}"));
                if tls.is_some() { format!("{address} with TLS") } else { address }
            }
        }
    }
}
