//! The real `larder` on roots of its own: what it says, how it ends, and what it leaves on disk.

mod answers;
mod contention;
mod endings;
mod running;
mod scene;
