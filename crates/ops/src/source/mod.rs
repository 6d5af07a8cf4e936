//! The operations that bring in something from outside.

pub(crate) mod image;
pub(crate) mod local;
