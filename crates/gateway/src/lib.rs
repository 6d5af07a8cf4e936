//! Frontends that run as containers, and containers a frontend asks for.
