//! Cache volumes: named, versioned, leased, forked, published.

mod disk;
mod document;
mod error;
mod layout;
mod merge;
mod name;
mod policy;
mod request;
mod state;
mod tree;
mod turn;

pub use disk::{Faults, Step};
pub use error::VolumeError;
pub use filelock::{Holder, Label};
pub use name::{NameError, VariantKey, VolumeKey, VolumeName};
pub use policy::{Driver, Merge, NoCache, Policy, PolicyPatch, PolicyRule, Quota, Salvage, Space};
pub use request::{
    LeaseRequest, MountRequest, Outcome, RootAttributes, Seed, Sharing, Unobserved, Variant,
    WaitObserver, Waiting,
};
pub use state::Origin;
pub use turn::Form;
