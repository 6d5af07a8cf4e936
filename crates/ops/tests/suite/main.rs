//! Operations through the solver, on real layers (root needed).

mod containers;
mod content;
mod copies;
mod layouts;
mod lending;
mod making;
mod processes;
mod repositories;
mod server;
mod sources;
mod web;
mod world;
