//! Whole builds through the frontend's front door: a strict fake of a build answers its questions, and
//! the graphs and documents that come out are kept as readable snapshots.

mod contexts;
mod corpus;
mod epoch;
mod errors;
mod fake;
mod graphs;
mod images;
mod lint;
mod questions;
mod render;
mod robust;
mod scans;
mod stable;
