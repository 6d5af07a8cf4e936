//! What is to be built, as a value.

use std::collections::BTreeMap;

use bridge::CacheImport;
use exporter::ExportRequest;
use llb::Definition;

/// One build, as a client asks for it (protocol page `control.md` §3.1).
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// The build's id, chosen by the client.
    pub reference: String,
    /// A graph to build; without it and without a frontend, the client drives the build itself.
    pub definition: Option<Definition>,
    /// The client's session; empty if there is none.
    pub session: String,
    /// A frontend to run here; empty for none.
    pub frontend: String,
    /// Options for the frontend, some of which the builder reads too.
    pub options: BTreeMap<String, String>,
    /// Inputs for the frontend.
    pub inputs: BTreeMap<String, Definition>,
    /// What the client allows the build to do beyond the usual.
    pub entitlements: Vec<String>,
    /// How the result is to be delivered.
    pub exporters: Vec<ExportRequest>,
    /// Where cached results are to be written.
    pub cache_exports: Vec<CacheImport>,
    /// Where to look for cached results.
    pub cache_imports: Vec<CacheImport>,
    /// True if the build is no business of the user's: it leaves no record.
    pub internal: bool,
}
