//! The client's side of a build: its files, secrets, keys.
