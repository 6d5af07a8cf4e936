//! One piece of work for the graph: the operation asked, or the store, and the outcome.

use futures::future::BoxFuture;

use crate::audience::Audience;
use crate::engine::{Engine, Seat};
use crate::order::{Outcome, Task};
use crate::{KeyId, OpContext, OpError, StoreError};

impl<R: Clone + Send + Sync + 'static> Engine<R> {
    /// Does one piece of work.
    pub(crate) async fn perform(&self, seat: &Seat<R>, task: Task<R>) -> Outcome<R> {
        let context = OpContext::new(seat.audience.clone());
        match task {
            Task::Map => self.map(seat, &context).await,
            Task::Content { slot, input } => {
                let op = match &seat.op {
                    Ok(op) => op,
                    Err(error) => return Outcome::Failed(error.clone()),
                };
                let ask = || op.content_key(&context, slot, &input);
                match self.attempt(&seat.audience, ask).await {
                    Ok(digest) => Outcome::Content(digest.map(KeyId::of_content)),
                    Err(error) => {
                        // Nobody saw this begin, and it is by its vertex that a user finds what is wrong.
                        Interval::begin(&seat.audience).end(Some(&error));
                        Outcome::Failed(error.during("failed to compute cache key"))
                    }
                }
            }
            Task::Exec { inputs } => self.exec(seat, &context, inputs).await,
            Task::Load(key) => match self.store.load(&context, key).await {
                Ok(Some(result)) => {
                    self.show_cached(seat.node);
                    Outcome::Loaded(Some(result))
                }
                Ok(None) => Outcome::Loaded(None),
                Err(error) => Outcome::Loaded(forgone(&context, &error, None)),
            },
            Task::Query(links) => {
                let mut found = match self.store.query(&links).await {
                    Ok(found) => found,
                    Err(error) => forgone(&context, &error, Vec::new()),
                };
                // An answer that is short would be asked for again and again.
                found.resize(links.len(), Vec::new());
                Outcome::Found(found)
            }
            Task::Save { record, result } => match self.store.save(record, &result).await {
                Ok(()) => Outcome::Kept,
                Err(error) => forgone(&context, &error, Outcome::Kept),
            },
            Task::Link(record) => match self.store.link(record).await {
                Ok(()) => Outcome::Kept,
                Err(error) => forgone(&context, &error, Outcome::Kept),
            },
        }
    }

    async fn map(&self, seat: &Seat<R>, context: &OpContext) -> Outcome<R> {
        // Only for a source is this work that a user would want to see.
        let shown = context.vertex().inputs.is_empty().then(|| Interval::begin(&seat.audience));
        let outcome = match &seat.op {
            Ok(op) => self.attempt(&seat.audience, || op.cache_map(context)).await,
            Err(error) => Err(error.clone()),
        };
        match (shown, &outcome) {
            (Some(interval), outcome) => interval.end(outcome.as_ref().err()),
            (None, Err(error)) => seat.audience.complete(Some(error)),
            (None, Ok(_)) => {}
        }
        match outcome {
            Ok(map) => Outcome::Mapped(map),
            Err(error) => Outcome::Failed(error.during("failed to load cache key")),
        }
    }

    async fn exec(&self, seat: &Seat<R>, context: &OpContext, inputs: Vec<R>) -> Outcome<R> {
        let counted = seat.op.as_ref().is_ok_and(|op| op.is_counted());
        let _permit = match &self.permits {
            // The semaphore is never closed; were it, work would just not be limited.
            Some(permits) if counted => permits.acquire().await.ok(),
            _ => None,
        };
        self.show_inputs_cached(seat.node);
        let interval = Interval::begin(&seat.audience);
        let outcome = match &seat.op {
            Ok(op) => self.attempt(&seat.audience, || op.exec(context, inputs.clone())).await,
            Err(error) => Err(error.clone()),
        };
        interval.end(outcome.as_ref().err());
        match outcome {
            Ok(results) => Outcome::Executed(results),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Asks the operation; again, if it failed because the job it served went away and there is
    /// another. Each round has lost a job, so this ends.
    async fn attempt<'a, T>(
        &self,
        audience: &Audience,
        ask: impl Fn() -> BoxFuture<'a, Result<T, OpError>> + Send,
    ) -> Result<T, OpError> {
        loop {
            let before = audience.jobs();
            match ask().await {
                Err(error) if audience.has_lost(&before, &error) => {
                    tracing::debug!(vertex.digest = %audience.digest(), "again for another job");
                }
                outcome => return outcome,
            }
        }
    }
}

/// Logs that the store did not help; the work is done instead.
fn forgone<T>(context: &OpContext, error: &StoreError, instead: T) -> T {
    let error = WithCause(error);
    tracing::warn!(vertex.digest = %context.digest(), %error, "did without the cache store");
    instead
}

/// Displays an error with its cause.
struct WithCause<'a>(&'a StoreError);

impl std::fmt::Display for WithCause<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0, self.0.source)
    }
}

/// An interval of work that a user sees; one that is dropped was interrupted.
struct Interval<'a>(Option<&'a Audience>);

impl<'a> Interval<'a> {
    fn begin(audience: &'a Audience) -> Self {
        audience.start();
        Self(Some(audience))
    }

    fn end(mut self, error: Option<&OpError>) {
        if let Some(audience) = self.0.take() {
            audience.complete(error);
        }
    }
}

impl Drop for Interval<'_> {
    fn drop(&mut self) {
        if let Some(audience) = self.0 {
            audience.interrupt();
        }
    }
}
