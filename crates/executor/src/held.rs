//! What a process needs as long as anything is left of it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Values that are kept until nothing is left of a container: leases, locks, references to what is
/// mounted. They are let go before [`Running::wait`](crate::Running::wait) returns; if the guard or the
/// start is dropped instead, they are let go later, when the last process is dead and the last mount
/// gone.
#[derive(Clone, Default)]
pub struct Held(Vec<Arc<dyn Any + Send + Sync>>);

impl Held {
    /// Adds a value.
    pub fn hold(&mut self, value: impl Any + Send + Sync) {
        self.0.push(Arc::new(value));
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} values)", self.0.len())
    }
}
