//! Frontends that run as containers, and containers a frontend asks for.
//!
//! [`BridgeService`] serves one conversation of a frontend with its build. [`wire`] has the messages as
//! our own values, for both sides of such a conversation.

mod service;
pub mod status;
pub mod wire;

pub use service::{BridgeService, Verdict};
