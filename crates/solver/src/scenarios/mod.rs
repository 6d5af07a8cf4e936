//! What the solver does for jobs with toy operations, seen through its public door.

mod cached;
mod failing;
mod shared;
mod told;
mod toys;
