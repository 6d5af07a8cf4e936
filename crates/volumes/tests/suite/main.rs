//! The crate from outside: real directories, real overlays, real second processes.

mod crash;
mod drivers;
mod ends;
mod leases;
mod owner;
mod processes;
mod size;
mod trees;
mod world;
