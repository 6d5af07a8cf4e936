//! Frontends that run as containers, and containers a frontend asks for.

pub mod status;
pub mod wire;
