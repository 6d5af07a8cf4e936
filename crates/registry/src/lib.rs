//! The OCI distribution protocol, both directions.
