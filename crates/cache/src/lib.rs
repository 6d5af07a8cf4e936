//! Results kept: references to snapshots and blobs, their keys, age and end.
