//! A process of a container.

use std::sync::Arc;

use async_trait::async_trait;
use bridge::{BuildError, Kind, Process};
use executor::{Running, Signal, SignalError, TerminalSize};

use super::not_run;

/// A process of a container. Dropping it kills it; the main process takes all others with it.
#[derive(Debug)]
pub(super) struct Contained(Arc<dyn Running>);

impl Contained {
    pub(super) const fn new(running: Arc<dyn Running>) -> Self {
        Self(running)
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        // The container holds its main process too. If it has ended by itself, that is as good.
        let _ = self.0.signal(Signal::KILL);
    }
}

#[async_trait]
impl Process for Contained {
    async fn wait(&self) -> Result<u32, BuildError> {
        Ok(self.0.wait().await.map_err(not_run)?.code())
    }

    fn signal(&self, signal: &str) -> Result<(), BuildError> {
        let unknown = |error: SignalError| BuildError::from_error(Kind::InvalidRequest, error);
        let signal: Signal = signal.parse().map_err(unknown)?;
        self.0.signal(signal).map_err(not_run)
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<(), BuildError> {
        self.0.resize(TerminalSize { rows, columns }).map_err(not_run)
    }
}
