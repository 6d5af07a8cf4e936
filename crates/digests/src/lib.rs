//! Content identity: digests, their typed kin, stable hashing.
