//! Blobs on disk, by digest, whole or not at all.
