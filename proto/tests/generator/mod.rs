//! Generates Rust from the `.proto` files: what the example `regenerate` writes and the test compares.
//!
//! Pure Rust, no `protoc`. Payloads become `Bytes` without a copy, and maps are ordered as the
//! deterministic encoding of Go orders them.

use std::path::Path;

/// Writes the generated modules into `directory`, which exists.
pub(crate) fn generate(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut files: Vec<_> = std::fs::read_dir(&protos)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let descriptors = protox::compile(files, [protos])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).btree_map(["."]);
    tonic_prost_build::configure()
        .out_dir(directory)
        .include_file("mod.rs")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
