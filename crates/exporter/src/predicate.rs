//! What a statement says: known, or known once the layers of the result are.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

/// What a statement says, as JSON. Clones are the same.
#[derive(Clone)]
pub struct Predicate(Source);

#[derive(Clone)]
enum Source {
    Known(Bytes),
    Late(Arc<dyn Fn() -> BoxFuture<'static, Bytes> + Send + Sync>),
}

impl Predicate {
    /// Returns one that is made when it is asked for: exporters ask when the layers of the result have their
    /// archives.
    pub fn late(make: impl Fn() -> BoxFuture<'static, Bytes> + Send + Sync + 'static) -> Self {
        Self(Source::Late(Arc::new(make)))
    }

    /// Returns what it says by now.
    pub async fn read(&self) -> Bytes {
        match &self.0 {
            Source::Known(bytes) => bytes.clone(),
            Source::Late(make) => make().await,
        }
    }
}

impl From<Bytes> for Predicate {
    fn from(bytes: Bytes) -> Self {
        Self(Source::Known(bytes))
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Known(one), Source::Known(other)) => one == other,
            (Source::Late(one), Source::Late(other)) => Arc::ptr_eq(one, other),
            (Source::Known(_), Source::Late(_)) | (Source::Late(_), Source::Known(_)) => false,
        }
    }
}

impl Eq for Predicate {}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Known(bytes) => f.debug_tuple("Predicate").field(bytes).finish(),
            Source::Late(_) => f.write_str("Predicate(late)"),
        }
    }
}
