//! One lock between processes, with its holder's name on it.
