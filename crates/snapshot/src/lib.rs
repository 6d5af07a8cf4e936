//! Copy-on-write file trees.
