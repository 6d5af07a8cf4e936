//! The harness that drives real clients against a real larderd.
