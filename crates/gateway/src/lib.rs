//! Frontends that run as containers, and containers a frontend asks for.
//!
//! [`ContainerFrontend`] runs a frontend's image. [`BridgeService`] serves one conversation of a frontend with its build. [`wire`] has the messages as
//! our own values, for both sides of such a conversation.

mod frontend;
mod service;
pub mod status;
pub mod wire;

pub use frontend::ContainerFrontend;
pub use service::{BridgeService, Verdict};
