//! A process in its own namespaces, described by a value.
//!
//! An [`Executor`] takes a [`ProcessSpec`] and a [`ProcessIo`] and gives back a [`Running`] guard. It
//! knows nothing of images, snapshots, sessions or the build graph: whoever calls it has already
//! decided what is mounted where. [`LinuxExecutor`] is the production implementation; the strict fake
//! for tests is behind the `testing` feature.

mod config;
mod error;
mod executor;
#[cfg(any(test, feature = "testing"))]
mod fake;
mod held;
pub mod host;
mod id;
mod io;
mod limits;
mod linux;
mod mounts;
mod process;
mod secret;
mod signal;
mod spec;
pub mod subvolume;

pub use config::{DnsConfig, ExecutorConfig, HelperProgram, SandboxNetwork};
pub use error::{ExecutorError, SetupError};
pub use executor::{Executor, Running};
#[cfg(any(test, feature = "testing"))]
pub use fake::{FakeExecutor, FakeProcess};
pub use held::Held;
pub use id::{ContainerId, ContainerIdError};
pub use io::{Input, Output, ProcessIo};
pub use limits::{LimitName, LimitNameError, Resources, Ulimit};
#[cfg(feature = "testing")]
pub use linux::Floor;
pub use linux::{LinuxExecutor, run_if_helper};
pub use mounts::GuestMount;
pub use process::{ExitStatus, TerminalSize};
pub use secret::SecretBytes;
pub use signal::{Signal, SignalError};
pub use spec::{ExecSpec, ExtraHost, Network, ProcessSpec, Security, StubRemoval, UserSpec};
