//! A build that its client drives: the client is the frontend, over the wire (protocol page
//! `gateway.md` §1).

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge::{Bridge, BuildError, FrontendResult, Kind};
use llb::Definition;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::job::{JobBridge, Shared};

/// What the client says at the end.
pub(crate) type Verdict = Result<FrontendResult, BuildError>;

/// The client's end of a build: the questions of a frontend, and the answer it gives at the end.
#[derive(Debug)]
pub struct ClientBridge {
    bridge: Arc<dyn Bridge>,
    inputs: BTreeMap<String, Definition>,
    verdict: Mutex<Option<oneshot::Sender<Verdict>>>,
}

impl ClientBridge {
    pub(crate) fn new(
        job: Arc<JobBridge>,
        inputs: BTreeMap<String, Definition>,
    ) -> (Self, oneshot::Receiver<Verdict>) {
        let (sender, receiver) = oneshot::channel();
        let verdict = Mutex::new(Some(sender));
        (Self { bridge: Arc::new(Shared(job)), inputs, verdict }, receiver)
    }

    /// Returns the bridge for the client's questions.
    pub fn bridge(&self) -> &Arc<dyn Bridge> {
        &self.bridge
    }

    /// Returns the graphs that were given by name.
    pub const fn inputs(&self) -> &BTreeMap<String, Definition> {
        &self.inputs
    }

    /// Takes the client's result, or why it has none. The build goes on from there.
    ///
    /// # Errors
    /// Returns an error if the client has said so before.
    pub fn give_back(&self, verdict: Verdict) -> Result<(), BuildError> {
        let sender = self.verdict.lock().take();
        let sender = sender.ok_or_else(|| {
            BuildError::new(Kind::InvalidRequest, "gateway result is already set")
        })?;
        // If the build was cancelled meanwhile, nobody wants the result.
        let _ = sender.send(verdict);
        Ok(())
    }
}
