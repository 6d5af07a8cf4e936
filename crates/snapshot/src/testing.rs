//! A snapshotter for tests: real files, no mounts, and strict.
