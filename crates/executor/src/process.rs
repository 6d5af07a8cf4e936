//! How processes end, and the size of what they write on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
    /// It was killed because its container had used up its memory.
    OutOfMemory,
}

impl ExitStatus {
    /// Returns true for code 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// Returns the code as shells count: 128 and the signal's number for a signal.
    pub const fn code(self) -> u32 {
        match self {
            Self::Code(code) => code as u32,
            Self::Signal(signal) => 128 + signal.unsigned_abs(),
            Self::OutOfMemory => 128 + 9,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code: {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("killed: out of memory"),
        }
    }
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}
