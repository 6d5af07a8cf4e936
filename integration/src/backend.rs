//! What the suites run against: our daemon, or any other that speaks the same protocol.

use crate::{Daemon, Engine, Launch, Settings};

/// What the suites run against.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per test")]
pub enum Backend {
    /// A `larderd` of the test's own.
    Larder(Daemon),
    /// A daemon that somebody else started, at this address. The original is the judge of our cases.
    Elsewhere(String),
    /// The distribution's engine, of the test's own.
    Engine(Box<Engine>),
}

impl Backend {
    /// Starts a daemon, or returns the one that the settings name.
    ///
    /// # Errors
    /// Fails if the daemon does not come up.
    pub fn start(settings: &Settings, launch: Launch) -> anyhow::Result<Self> {
        match &settings.address {
            Some(address) => Ok(Self::Elsewhere(address.clone())),
            None => Daemon::start(settings, launch).map(Self::Larder),
        }
    }

    /// Returns the address that clients use.
    pub fn address(&self) -> String {
        match self {
            Self::Larder(daemon) => daemon.address(),
            Self::Elsewhere(address) => address.clone(),
            Self::Engine(engine) => engine.address(),
        }
    }
}
