//! Cache volumes: named, versioned, leased, forked, published.

mod admin;
mod browse;
mod disk;
mod document;
mod ending;
mod error;
mod flatten;
mod gate;
mod hold;
mod idle;
mod layout;
mod lease;
mod live;
mod manager;
mod merge;
mod name;
mod policy;
mod prune;
mod record;
mod request;
mod settings;
mod settle;
mod state;
mod store;
mod sweep;
mod tidy;
mod tree;
mod turn;
mod usage;
mod wake;
mod want;

pub use browse::{Entry, EntryKind};
pub use disk::{Faults, Step};
pub use error::VolumeError;
pub use filelock::{Holder, Label};
pub use lease::Leases;
pub use manager::VolumeManager;
pub use name::{NameError, VariantKey, VolumeKey, VolumeName};
pub use policy::{Driver, Merge, NoCache, Policy, PolicyPatch, PolicyRule, Quota, Salvage, Space};
pub use prune::{PruneRequest, Removed, prune_candidates};
pub use record::{LeaseRecord, Location, VersionRecord, VolumeRecord};
pub use request::{
    LeaseRequest, MountRequest, Outcome, RootAttributes, Seed, Sharing, Unobserved, Variant,
    WaitObserver, Waiting,
};
pub use settings::VolumeSettings;
pub use state::Origin;
pub use turn::Form;
