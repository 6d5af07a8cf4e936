//! A result, delivered in the form asked for.
