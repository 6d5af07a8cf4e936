//! The build graph a client sends, parsed and checked; and the builder for frontends.
