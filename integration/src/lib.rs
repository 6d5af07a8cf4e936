//! The harness that drives real clients against a real larderd: real processes, a real registry, real
//! images, as root. Nothing here is a mock, but for one scripted server that speaks ill on purpose.
//!
//! A test starts a [`World`], writes a [`Project`], runs builds on it, and looks at what came out. What the
//! daemon logged and what it left behind on the machine is judged when the world goes.

mod backend;
mod buildx;
mod daemon;
mod frontend;
pub mod house;
mod images;
mod leftovers;
mod lines;
mod memory;
mod owner;
mod plain;
mod program;
mod project;
mod registry;
mod scripted;
mod settings;
mod skopeo;
mod ssh;
mod wire;
mod world;

pub mod differ;
mod engine;
mod relay;

pub use backend::Backend;
pub use buildx::{Build, BuildCommand, Buildx, RunningBuild};
pub use daemon::{Daemon, Launch};
pub use engine::Engine;
pub use frontend::{FRONTEND, push_frontend};
pub use images::{BUSYBOX, DEBIAN};
pub use lines::Lines;
pub use memory::SmallMemory;
pub use owner::Owner;
pub use plain::{Plain, Step};
pub use program::{Finished, Program, Running};
pub use project::Project;
pub use registry::Registry;
pub use scripted::{Answer, Asked, Scripted};
pub use settings::Settings;
pub use skopeo::{Archive, Entry, Image, statements};
pub use ssh::{SshAgent, SshServer};
pub use wire::{Bridge, Graph, MESSAGE_LIMIT, Wire};
pub use world::World;

/// The certificates of the machine, which a step needs when it fetches over TLS.
pub const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
