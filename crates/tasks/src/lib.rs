//! How work is started, shared and stopped.
