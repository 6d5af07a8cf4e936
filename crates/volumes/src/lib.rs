//! Cache volumes: named, versioned, leased, forked, published.

mod error;
mod name;
mod policy;
mod request;

pub use error::VolumeError;
pub use filelock::{Holder, Label};
pub use name::{NameError, VariantKey, VolumeKey, VolumeName};
pub use policy::{Driver, Merge, NoCache, Policy, PolicyPatch, PolicyRule, Quota, Salvage, Space};
pub use request::{
    LeaseRequest, MountRequest, Outcome, RootAttributes, Seed, Sharing, Unobserved, Variant,
    WaitObserver, Waiting,
};
