//! Results kept, on a real disk and with real overlays (root needed).

mod archives;
mod checksums;
mod collector;
mod images;
mod index;
mod refs;
mod trees;
mod world;
