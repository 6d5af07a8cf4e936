//! Operations through the solver, on real layers (root needed).

mod content;
mod copies;
mod processes;
mod sources;
mod world;
