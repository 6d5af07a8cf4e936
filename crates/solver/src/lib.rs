//! Finds the cheapest way to an edge's result: dedupe, cache, or run.
