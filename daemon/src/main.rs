//! larderd: flags, configuration, assembly, gRPC services.

fn main() {}
