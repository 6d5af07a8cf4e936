//! Bounds on what a process may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A limit of the process (`setrlimit(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What is limited.
    pub name: LimitName,
    /// What the process gets; `u64::MAX` for no limit.
    pub soft: u64,
    /// What it may raise that to; `u64::MAX` for no limit.
    pub hard: u64,
}

/// What an [`Ulimit`] limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of setrlimit(2)")]
pub enum LimitName {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// A text that names no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid ulimit type: {0}")]
pub struct LimitNameError(String);

const NAMES: [(&str, LimitName); 15] = [
    ("core", LimitName::Core),
    ("cpu", LimitName::Cpu),
    ("data", LimitName::Data),
    ("fsize", LimitName::Fsize),
    ("locks", LimitName::Locks),
    ("memlock", LimitName::Memlock),
    ("msgqueue", LimitName::Msgqueue),
    ("nice", LimitName::Nice),
    ("nofile", LimitName::Nofile),
    ("nproc", LimitName::Nproc),
    ("rss", LimitName::Rss),
    ("rtprio", LimitName::Rtprio),
    ("rttime", LimitName::Rttime),
    ("sigpending", LimitName::Sigpending),
    ("stack", LimitName::Stack),
];

impl FromStr for LimitName {
    type Err = LimitNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.to_ascii_lowercase();
        let found = NAMES.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, limit)| *limit).ok_or_else(|| LimitNameError(text.to_owned()))
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = NAMES.iter().find(|(_, limit)| limit == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// Bounds on the container as a whole, applied where the machine's cgroups allow it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together in bytes; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// Relative weight, 2 to 262144, 1024 being the kernel's default.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<i64>,
    /// The length of a period in microseconds.
    pub cpu_period: Option<u64>,
    /// The processors to run on, as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes to allocate from, as `0-1`.
    pub cpuset_mems: Option<String>,
}

impl Resources {
    /// Returns true if nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_names_round_trip() {
        for (name, limit) in NAMES {
            assert_eq!(name.parse(), Ok(limit));
            assert_eq!(limit.to_string(), name);
        }
        assert_eq!("NOFILE".parse(), Ok(LimitName::Nofile));
        assert!("files".parse::<LimitName>().is_err());
    }
}
