//! The wire: our .proto files, generated code, nothing else.
