//! For whom a process runs: whose secrets it may have, who is told when it has to wait.

use session::Sessions;
use solver::{JobId, OpContext};

use crate::clients::Clients;

/// For whom a process runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patron<'a> {
    /// The builds that want the result of a step.
    Step(&'a OpContext),
    /// The one build that a container belongs to.
    Container(&'a Owner),
}

/// The build that a container belongs to.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Its id.
    pub(crate) build: String,
    /// The sessions of its client.
    pub(crate) sessions: Vec<String>,
}

impl Patron<'_> {
    /// Returns the clients that may be asked now.
    pub(crate) fn clients(self, sessions: &Sessions) -> Clients {
        match self {
            Self::Step(context) => Clients::of(sessions, context),
            Self::Container(owner) => Clients::asking(sessions, &owner.sessions),
        }
    }

    /// Returns what the process is called, for people.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Step(context) => context.vertex().name.clone(),
            Self::Container(_) => "a container of the frontend".to_owned(),
        }
    }

    /// Returns the id of the build that wanted it first; empty if there is none left.
    pub(crate) fn build(self) -> String {
        match self {
            Self::Step(context) => {
                context.jobs().first().map(|job| job.id.to_string()).unwrap_or_default()
            }
            Self::Container(owner) => owner.build.clone(),
        }
    }

    /// Returns the build for which volumes start empty; none if they may be what they are.
    pub(crate) fn without_cache(self) -> Option<JobId> {
        match self {
            Self::Step(context) if context.vertex().ignore_cache => {
                context.jobs().first().map(|job| job.id.clone())
            }
            Self::Step(_) | Self::Container(_) => None,
        }
    }
}
