//! The crate from outside: real directories, real overlays, real second processes.

mod leases;
mod world;
