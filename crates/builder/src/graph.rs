//! From a client's definition to the solver's graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bridge::{BuildError, Kind};
use digests::VertexDigest;
use llb::{Definition, NetMode, Op, SecurityMode};
use solver::{Edge, Vertex};

/// What a build may do beyond the usual: what the client grants and the daemon allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entitlements {
    granted: BTreeSet<String>,
}

impl Entitlements {
    /// Returns what of `asked` is `allowed`.
    ///
    /// # Errors
    /// Returns an error for one that is unknown, or that the daemon does not allow.
    pub fn grant(asked: &[String], allowed: &BTreeSet<String>) -> Result<Self, BuildError> {
        let mut granted = BTreeSet::new();
        for one in asked {
            let name = one.split('=').next().unwrap_or_default();
            if !["network.host", "security.insecure", "device"].contains(&name) {
                let text = format!("unknown entitlement {one}");
                return Err(BuildError::new(Kind::InvalidRequest, text));
            }
            if name != "device" && !allowed.contains(name) {
                let text = format!(
                    "granting entitlement {name} is not allowed by build daemon configuration; start the daemon with --allow-insecure-entitlement={name}"
                );
                return Err(BuildError::new(Kind::Denied, text));
            }
            granted.insert(name.to_owned());
        }
        Ok(Self { granted })
    }

    fn check(&self, op: &Op) -> Result<(), BuildError> {
        let Op::Exec(exec) = op else { return Ok(()) };
        // Nothing here knows devices, so that none is ever found.
        if let Some(device) = exec.devices.iter().find(|device| !device.optional) {
            let text = format!("required device \"{}\" is not registered", device.name);
            return Err(BuildError::new(Kind::User, text));
        }
        self.allow_network(exec.network)?;
        self.allow_security(exec.security)
    }

    /// Checks that a process may see a network.
    ///
    /// # Errors
    /// Returns an error if that was not granted.
    pub(crate) fn allow_network(&self, network: NetMode) -> Result<(), BuildError> {
        self.need(network == NetMode::Host, "network.host")
    }

    /// Checks that a process may be confined no more than this.
    ///
    /// # Errors
    /// Returns an error if that was not granted.
    pub(crate) fn allow_security(&self, security: SecurityMode) -> Result<(), BuildError> {
        self.need(security == SecurityMode::Insecure, "security.insecure")
    }

    fn need(&self, used: bool, name: &str) -> Result<(), BuildError> {
        if used && !self.granted.contains(name) {
            return Err(BuildError::new(Kind::Denied, format!("{name} is not allowed")));
        }
        Ok(())
    }
}

/// Loads a definition; none for the empty file system.
///
/// # Errors
/// Returns an error if the definition is malformed, or asks for what is not granted.
pub(crate) fn load(
    definition: &Definition,
    entitlements: &Entitlements,
) -> Result<Option<Edge>, BuildError> {
    if definition.is_empty() {
        return Ok(None);
    }
    let graph =
        definition.load().map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))?;
    let mut made: HashMap<VertexDigest, Arc<Vertex>> = HashMap::new();
    for vertex in &graph.vertices {
        entitlements.check(&vertex.op)?;
        let inputs = vertex.inputs.iter().map(|edge| edge_of(&made, *edge));
        let group = vertex.metadata.progress_group.as_ref().map(|group| progress::Group {
            id: group.id.clone(),
            name: group.name.clone(),
            weak: group.weak,
        });
        let description: BTreeMap<String, String> = vertex.metadata.description.clone();
        let vertex = Vertex {
            digest: vertex.digest,
            name: vertex.name.clone(),
            inputs: inputs.collect::<Result<_, _>>()?,
            payload: vertex.clone(),
            ignore_cache: vertex.metadata.ignore_cache,
            group,
            description,
        };
        made.insert(vertex.digest, Arc::new(vertex));
    }
    edge_of(&made, graph.root).map(Some)
}

fn edge_of(made: &HashMap<VertexDigest, Arc<Vertex>>, edge: llb::Edge) -> Result<Edge, BuildError> {
    let vertex = made.get(&edge.vertex).cloned().ok_or_else(|| {
        let text = format!("invalid missing input digest {}", edge.vertex);
        BuildError::new(Kind::InvalidRequest, text)
    })?;
    Ok(Edge::new(vertex, edge.output))
}
