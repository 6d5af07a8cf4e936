//! Layers as directories.
