//! Cache volumes: named, versioned, leased, forked, published.
//!
//! A volume is a file tree with a name. A step that uses one holds a lease, taken from a
//! [`VolumeManager`] and ended by [`Leases::finish`]: what was written is then published, or thrown
//! away, as the volume's [`Policy`] says. What a lease looks like depends on how it is shared
//! ([`Sharing`]) and on what the volume is on disk ([`Form`]):
//!
//! - A *plain* volume is one directory. `shared` and `locked` leases are that directory, written in
//!   place: nothing is copied, mounted or walked, and nothing can be taken back. A step that is killed
//!   leaves in it what it wrote.
//! - A volume becomes *versioned* when something needs a tree that stands still: the first `private`
//!   or read-only lease, or a policy that may throw writes away. From then on a version never changes,
//!   and every writer has an overlay layer of its own above the head. Publishing makes a version of
//!   the layer and what is below it. Nobody ever writes into what somebody else reads.
//!
//! A `private` lease never waits, but for one case: somebody is writing a plain volume in place. Where
//! files can share blocks (xfs, btrfs) it gets a copy then, else it waits, that once. A live tree that
//! several steps share above a head is an overlay mounted by this crate; a process that does not see
//! that mount, because it lives in another mount namespace, waits until the group has ended.
//!
//! On btrfs a tree is a subvolume, and the first fork beside a writer in place a snapshot: all that had
//! been written at one instant. Under the driver `subvolume` every writer's tree is a snapshot of the
//! head's: nothing is mounted or stacked, and a group's tree is seen by every process. Such a layer is a version by itself; a union is made in a
//! snapshot of the head. Volumes that have layers already, and trees in which a step has made
//! subvolumes of its own, go on with the overlay. What several snapshots have in common is counted
//! once, though `du` counts it in each.
//!
//! Writes that are kept after a failure, and those that are not:
//!
//! | step | in place | `shared`, own layer | `locked`, `private`, own layer |
//! |---|---|---|---|
//! | succeeded | kept | kept | kept |
//! | failed | kept | as `on_failure` | as `on_failure` |
//! | killed, cancelled, cut off by a crash | kept | as `on_failure` | thrown away |
//!
//! An `on_interrupt` that was decided stands before the last row. Under a policy that may throw writes
//! away nothing is written in place, and one member who has to spoil a shared tree spoils it for all.
//!
//! # On disk
//!
//! Plain files, so that any number of processes can use the same volumes at once.
//!
//! ```text
//! <root>/v1/                      the format, in the name
//!   making                        lock: shared by those who have something in limbo
//!   limbo/<id>/                   what is being made: renamed to its place when it is whole
//!   trash/<id>/                   what is being deleted: renamed out of its place first
//!   seeding/<key>                 lock: a variant is being seeded
//!   empty/                        always empty
//!   volumes/<key>/                a volume; the key is a digest of its name
//!     volume.json                 the name, written once
//!     state.json                  head, versions, decisions: replacing it is what publishes
//!     usage.json, measured.json   statistics, not synced
//!     gate                        lock: held while documents are read and turns decided; moments
//!     publisher                   lock: held while the head moves or layers are settled
//!     turns/<turn>                a lease or a place in the queue, locked by its living owner
//!     layers/<id>/fs              a plain tree, a subvolume, or what one writer changed above others
//!     layers/<id>/work            the kernel's scratch space, and ours when layers are settled
//!     layers/<id>/live            where a tree that several share is mounted
//!     layers/<id>/spoiled         there if the layer must not be published
//!     faces/<uid>-<gid>-<mode>    lends a read-only view its owner and mode
//! ```
//!
//! A document is a line of JSON and a line with its digest, written beside, synced and renamed. A layer
//! is synced before the state that needs it. What is in `layers`, `limbo` or `trash` and is not named
//! by a state or a living turn is garbage, and is swept; so at any instant a crash leaves the old
//! version or the new one. A turn is its file's lock: it ends with its process, however that dies.
//!
//! # Who goes first
//!
//! A turn waits for every turn that holds and cannot go together with it, and for every such turn that
//! came before it and waits. Several volumes are taken in the order of their keys. The rules are pure
//! (`turn`), and tried out in every timeline of a few turns.
//!
//! This crate does not know what a build is, and starts no process: mounts are described to the
//! caller, who performs them.

mod admin;
mod browse;
mod disk;
mod document;
mod ending;
mod error;
mod flatten;
mod gate;
mod ground;
mod hold;
mod idle;
mod layout;
mod lease;
mod live;
mod manager;
mod merge;
mod name;
mod notice;
mod observe;
mod policy;
mod prune;
mod record;
mod request;
mod settings;
mod settle;
mod stamp;
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
pub use notice::Notice;
pub use observe::{VolumeEvent, VolumeObserver};
pub use policy::{Driver, Merge, NoCache, Policy, PolicyPatch, PolicyRule, Quota, Salvage, Space};
pub use prune::{Neighbour, PruneRequest, Removed, prune_candidates};
pub use record::{LeaseRecord, Location, VersionRecord, VolumeRecord};
pub use request::{
    LeaseRequest, MountRequest, Outcome, RootAttributes, Seed, Sharing, Unobserved, Variant,
    WaitObserver, Waiting,
};
pub use settings::VolumeSettings;
pub use state::Origin;
pub use turn::Form;
