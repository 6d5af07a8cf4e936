//! Image documents as values, with the bytes they came in.
