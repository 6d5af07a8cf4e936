//! The operations that bring in something from outside.

pub(crate) mod git;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod local;
pub(crate) mod origin;
