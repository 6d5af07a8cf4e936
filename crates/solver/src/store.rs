//! Where results and their keys are kept between builds: the trait that the solver asks.
//!
//! The model is two tables, which any key-value store can hold:
//!
//! | table | key | value |
//! |---|---|---|
//! | links | [`LinkKey`] | the [`KeyId`]s it leads to, newest first |
//! | results | [`KeyId`] | the result, if it is (still) there |
//!
//! Both kinds of key are digests computed from what they stand for, so writing the same thing twice
//! changes nothing, and no order of writes leaves a wrong answer: a link to a result that is gone
//! is still true, and merely useless until someone makes that result again.

use async_trait::async_trait;

use crate::{KeyId, LinkKey, OpContext};

/// Why a store could not answer.
#[derive(Debug, thiserror::Error)]
#[error("cache store cannot {action}")]
pub struct StoreError {
    /// What was attempted: `save a record`.
    pub action: &'static str,
    /// Why it did not work.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A result to be found again: its key and the links that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The key of the result.
    pub key: KeyId,
    /// The links that lead to it. Empty for an operation without inputs: its key says it all.
    pub links: Vec<LinkKey>,
}

/// Keeps results under their keys. An error of a store never fails a build: the solver logs it and
/// does the work instead.
#[async_trait]
pub trait CacheStore<R>: Send + Sync {
    /// Returns for each of `links`, in their order, the keys it leads to, newest first.
    async fn query(&self, links: &[LinkKey]) -> Result<Vec<Vec<KeyId>>, StoreError>;

    /// Returns the result of `key`, or none if it is not there (any more). May take long, for
    /// example if the result has to be brought from elsewhere; dropping the future cancels.
    async fn load(&self, context: &OpContext, key: KeyId) -> Result<Option<R>, StoreError>;

    /// Keeps `result` and its links. When this returns, `query` and `load` see them; that they
    /// survive a crash may come a little later. A key that has a result already gets the new one.
    async fn save(&self, record: NewRecord, result: &R) -> Result<(), StoreError>;

    /// Adds links to a key that was found another way, so that it is found faster the next time.
    async fn link(&self, record: NewRecord) -> Result<(), StoreError>;
}
