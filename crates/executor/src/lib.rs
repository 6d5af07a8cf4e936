//! A process in its own namespaces, described by a value.
