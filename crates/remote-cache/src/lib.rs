//! Cache keys and layers to and from elsewhere.
