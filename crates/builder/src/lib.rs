//! One request, from arrival to export.
