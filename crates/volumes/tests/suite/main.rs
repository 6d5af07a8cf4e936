//! The crate from outside: real directories, real overlays, real second processes.

mod crash;
mod drivers;
mod leases;
mod owner;
mod processes;
mod trees;
mod world;
