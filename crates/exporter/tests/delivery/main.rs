//! Results in all forms, through the public door, with strict fakes at every other end.

mod archives;
mod directories;
mod images;
mod indexes;
mod pushes;
mod refusals;
mod registry_program;
mod tarballs;
mod workbench;
