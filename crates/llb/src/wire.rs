//! Conversions between the wire's types and ours: the only place that knows both.
//!
//! From the wire, everything is checked. Towards the wire nothing can fail. Operations themselves are
//! not written here but by the crate's own deterministic encoder, because their bytes are their
//! identity.

mod exec;
mod file;
mod load;
mod values;

pub use exec::{exec_devices, exec_mount, exec_proxy, net_mode, secret_env, security_mode};
pub(crate) use load::{Known, graph};
pub use load::{metadata, operation};
