//! The Dockerfile frontend as a program for a syntax image.

fn main() {}
