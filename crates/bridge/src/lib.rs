//! What a front door may ask of a build.
