//! Cache volumes: named, versioned, leased, forked, published.
