//! A client for tests.
