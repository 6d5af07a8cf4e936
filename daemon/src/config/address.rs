//! Where the daemon listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `unix:///run/larder/larderd.sock`
    Unix(PathBuf),
    /// `tcp://0.0.0.0:1234`: a host name or address, with a port.
    Tcp(String),
    /// `fd://`: the sockets that the service manager opened, or one of them by its number or `*`.
    Descriptor(Option<usize>),
}

/// The number of the first socket that a service manager passes.
const FIRST_DESCRIPTOR: usize = 3;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// No scheme that we know.
    #[error("invalid address `{0}`: expected `unix:///path`, `tcp://host:port` or `fd://`")]
    Scheme(String),
    /// The part after the scheme is not one of its addresses.
    #[error("invalid address `{0}`: {1}")]
    Rest(String, &'static str),
}

impl Default for Address {
    fn default() -> Self {
        Self::Unix(PathBuf::from("/run/larder/larderd.sock"))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |reason| AddressError::Rest(text.to_owned(), reason);
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("unix", _)) => Err(wrong("the path must be absolute")),
            Some(("tcp", host)) => match host.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => Ok(Self::Tcp(host.to_owned())),
                _ => Err(wrong("a port is missing")),
            },
            Some(("fd", "" | "*")) => Ok(Self::Descriptor(None)),
            Some(("fd", number)) => number
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(FIRST_DESCRIPTOR))
                .map(|index| Self::Descriptor(Some(index)))
                .ok_or_else(|| wrong("sockets are numbered from 3")),
            _ => Err(AddressError::Scheme(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Descriptor(None) => f.write_str("fd://"),
            Self::Descriptor(Some(index)) => write!(f, "fd://{}", index + FIRST_DESCRIPTOR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in [
            "unix:///run/a.sock",
            "tcp://0.0.0.0:1234",
            "tcp://[::1]:1234",
            "tcp://:1234",
            "fd://",
            "fd://4",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_listened_on_is_refused() {
        for (text, says) in [
            ("unix://a.sock", "absolute"),
            ("tcp://host", "port"),
            ("tcp://host:port", "port"),
            ("fd://2", "numbered from 3"),
            ("fd://x", "numbered from 3"),
            ("npipe:////./pipe/x", "expected `unix"),
            ("/run/a.sock", "expected `unix"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(text), "{error}");
        }
    }
}
