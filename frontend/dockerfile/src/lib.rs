//! The Dockerfile: text to LLB, pure.
