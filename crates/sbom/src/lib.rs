//! Lists of what is in a result (SBOMs): who makes them, and the graph that does (protocol page
//! `gateway.md` §8).
//!
//! A [`ScanRequest`] is what a build's options ask for. A [`Scanner`] is the image that does it, found
//! through the [`bridge::Bridge`]; it turns a tree into an attestation whose statements are what the image's
//! command writes. Which trees are scanned is for whoever has them to say: a frontend that knows of more than
//! the result, or else the builder. What a statement says is not known here.

mod request;
mod scanner;

use bridge::FrontendResult;

pub use request::{Reader, ScanRequest};
pub use scanner::{ScanTarget, Scanner};

/// The type of what a list says: a document of SPDX.
pub const PREDICATE_TYPE: &str = "https://spdx.dev/Document";
/// The name of the list of the result itself, and of the file that it is in, up to the first dot.
pub const CORE: &str = "sbom";

/// Returns whether somebody has made a list of a result.
pub fn is_scanned(result: &FrontendResult) -> bool {
    let mut attestations = result.attestations.values().flatten();
    attestations.any(|attestation| attestation.predicate_type == PREDICATE_TYPE)
}
