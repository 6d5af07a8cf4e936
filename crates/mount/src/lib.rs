//! Mounts and paths; host side and guest side never confused.
