//! Rewrites `proto/src/generated` from the `.proto` files: `cargo run -p proto --example regenerate`.

#[path = "../tests/generator/mod.rs"]
mod generator;

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    std::fs::create_dir_all(&directory)?;
    for entry in std::fs::read_dir(&directory)? {
        std::fs::remove_file(entry?.path())?;
    }
    generator::generate(&directory)
}
