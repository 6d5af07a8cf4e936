//! What a result was made from: images, repositories and files, as addresses with digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use digests::VertexDigest;
use llb::{Op, SourceOp, Vertex};
use oci::Reference;
use serde_json::{Map, Value, json};

/// What operations found that they name, such as a commit, by vertex.
pub(crate) type Pins = BTreeMap<VertexDigest, String>;

/// What a result was made from.
#[derive(Debug, Default)]
pub(super) struct Materials {
    images: BTreeMap<String, Value>,
    repositories: BTreeMap<String, Value>,
    files: BTreeMap<String, Value>,
    /// Directories of clients: they have no digest.
    pub(super) locals: BTreeSet<String>,
    /// Whether something else cannot be told.
    has_gaps: bool,
}

impl Materials {
    /// Returns what is outside of these operations.
    pub(super) fn of(vertices: &[Arc<Vertex>], pins: &Pins) -> Self {
        let mut materials = Self::default();
        for vertex in vertices {
            match &vertex.op {
                Op::Source(source) => {
                    let pin = pins.get(&vertex.digest).map(String::as_str);
                    let told = materials.add(source, vertex, pin);
                    materials.has_gaps |= told.is_none();
                }
                // What it was told to build is in a file.
                Op::Build(_) => materials.has_gaps = true,
                Op::Exec(_) | Op::File(_) | Op::Merge | Op::Diff { .. } | Op::Passthrough(_) => {}
            }
        }
        materials
    }

    /// Adds a source; none if it cannot be told.
    fn add(&mut self, source: &SourceOp, vertex: &Vertex, pin: Option<&str>) -> Option<()> {
        let (scheme, rest) = source.split();
        match scheme {
            "local" => drop(self.locals.insert(rest.to_owned())),
            "docker-image" | "oci-layout" => {
                let reference = Reference::parse(rest).ok()?;
                let named = reference.digest().map(|digest| digest.to_string());
                let digest = named.or_else(|| pin.map(str::to_owned))?;
                let platform = vertex.platform.as_ref().map(short);
                let kind = if scheme == "oci-layout" { "oci" } else { "docker" };
                let uri = package_url(kind, &reference, platform.as_deref());
                self.images.insert(uri.clone(), json!({ "uri": uri, "digest": digests(&digest) }));
            }
            "git" => {
                let (uri, commit) = (repository(source), pin?);
                let known = json!({ "uri": uri, "digest": commit_digests(commit) });
                self.repositories.entry(uri).or_insert(known);
            }
            "http" | "https" => {
                let uri = redacted(&source.identifier);
                let known = json!({ "uri": uri, "digest": digests(pin?) });
                self.files.entry(uri).or_insert(known);
            }
            _ => return None,
        }
        Some(())
    }

    /// Returns whether everything has a digest.
    pub(super) fn are_complete(&self) -> bool {
        self.locals.is_empty() && !self.has_gaps
    }

    /// Returns all of them, each kind in the order of its addresses.
    pub(super) fn list(&self) -> Vec<Value> {
        let kinds = [&self.images, &self.repositories, &self.files];
        kinds.into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Returns the digests of the repository or the file at an address, as clients write it.
    pub(super) fn digests_at(&self, address: &str) -> Option<&Value> {
        let (place, fragment) = address.split_once('#').unwrap_or((address, ""));
        let reference = fragment.split(':').next().unwrap_or_default();
        let mut address = redacted(place);
        if !reference.is_empty() {
            address = format!("{address}#{reference}");
        }
        let found = self.repositories.get(&address).or_else(|| self.files.get(&address));
        found.map(|material| &material["digest"])
    }
}

fn digests(digest: &str) -> Value {
    let (kind, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
    Value::Object(Map::from_iter([(kind.to_owned(), Value::from(hex))]))
}

/// The kind of hash is that of the repository, and shows in the length.
fn commit_digests(commit: &str) -> Value {
    let kind = if commit.len() == 64 { "sha256" } else { "sha1" };
    digests(&format!("{kind}:{commit}"))
}

/// Returns the address of a repository, with the branch or tag that was asked for.
fn repository(source: &SourceOp) -> String {
    let (place, fragment) = source.split().1.split_once('#').unwrap_or((source.split().1, ""));
    let given = source.attribute("git.fullurl").filter(|address| !address.is_empty());
    let remote = match given.unwrap_or(place) {
        remote if remote.contains("://") || remote.contains('@') => redacted(remote),
        remote => format!("https://{remote}"),
    };
    match fragment.split(':').next().filter(|reference| !reference.is_empty()) {
        Some(reference) => format!("{remote}#{reference}"),
        None => remote,
    }
}

/// Returns an address without the name and the password in it.
pub(super) fn redacted(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((user, host)) = authority.rsplit_once('@') else { return address.to_owned() };
    let user = if user.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" };
    format!("{scheme}://{user}@{host}{path}")
}

fn short(platform: &llb::Platform) -> String {
    let mut text = format!("{}/{}", platform.os, platform.architecture);
    if !platform.variant.is_empty() {
        text = format!("{text}/{}", platform.variant);
    }
    text
}

/// Returns the package URL of an image.
fn package_url(kind: &str, reference: &Reference, platform: Option<&str>) -> String {
    let familiar = reference.familiar();
    let name = familiar.split('@').next().unwrap_or_default();
    let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    let name = name.strip_suffix(&tag).unwrap_or(name);
    let mut url = format!("pkg:{kind}/{}", name.replace(':', "%3A"));
    if let Some(tag) = reference.tag() {
        url.push('@');
        url.push_str(tag);
    }
    let mut separator = '?';
    // A tag that was resolved is told as the tag; the digest stands beside the address.
    if let (None, Some(digest)) = (reference.tag(), reference.digest()) {
        url.push_str(&format!("{separator}digest={digest}"));
        separator = '&';
    }
    if let Some(platform) = platform {
        url.push_str(&format!("{separator}platform={}", platform.replace('/', "%2F")));
    }
    url
}

#[cfg(test)]
mod tests {
    use llb::{
        Definition, GitOptions, HttpOptions, ImageOptions, LocalOptions, OpOptions, Platform, State,
    };

    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn amd64() -> Platform {
        Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() }
    }

    fn vertices(states: Vec<State>) -> Vec<Arc<Vertex>> {
        let graph = |state: State| -> Definition { state.marshal(&amd64()).unwrap() };
        let graphs = states.into_iter().map(graph).filter_map(|graph| graph.load().ok());
        graphs.flat_map(|graph| graph.vertices).collect()
    }

    /// Returns the materials of sources of which `pin` was found.
    fn materials(states: Vec<State>, pin: Option<&str>) -> Materials {
        let vertices = vertices(states);
        let pins = vertices.iter().filter_map(|one| Some((one.digest, pin?.to_owned())));
        Materials::of(&vertices, &pins.collect())
    }

    fn http(url: &str) -> State {
        State::http(url, HttpOptions::default(), OpOptions::default())
    }

    fn git(remote: &str, reference: &str) -> State {
        let options = GitOptions { reference: reference.to_owned(), ..GitOptions::default() };
        State::git(remote, options, OpOptions::default())
    }

    #[test]
    fn an_image_is_told_by_its_tag_or_else_its_digest() {
        let digest = digests::Digest::of("image");
        let url = |name: &str| {
            package_url("docker", &Reference::parse(name).unwrap(), Some("linux/amd64"))
        };
        assert_eq!(
            url(&format!("localhost:5000/app:1@{digest}")),
            "pkg:docker/localhost%3A5000/app@1?platform=linux%2Famd64"
        );
        let expected = format!("pkg:docker/app?digest={digest}&platform=linux%2Famd64");
        assert_eq!(url(&format!("app@{digest}")), expected);
    }

    #[test]
    fn repositories_and_files_are_told_by_what_was_found_there() {
        let found = materials(vec![git("https://me:word@host/a.git", "main")], Some(COMMIT));
        let uri = "https://xxxxx:xxxxx@host/a.git#main";
        assert_eq!(found.list(), [json!({ "uri": uri, "digest": { "sha1": COMMIT } })]);
        // The place of a directory in it is no part of what was fetched.
        let address = "https://me:word@host/a.git#main:docs";
        assert_eq!(found.digests_at(address), Some(&json!({ "sha1": COMMIT })));
        assert!(found.are_complete());
        let long = COMMIT.repeat(2)[..64].to_owned();
        let found = materials(vec![git("git@host:a.git", "")], Some(&long));
        let uri = "git@host:a.git";
        assert_eq!(found.list(), [json!({ "uri": uri, "digest": { "sha256": long } })]);
        let digest = digests::Digest::of("file");
        let found = materials(vec![http("https://host/f?a=1")], Some(&digest.to_string()));
        let expected = json!({ "sha256": digest.hex() });
        assert_eq!(found.list(), [json!({ "uri": "https://host/f?a=1", "digest": expected })]);
        assert_eq!(found.digests_at("https://host/f?a=1"), Some(&expected));
    }

    #[test]
    fn an_image_without_a_digest_has_the_one_that_was_found() {
        let image = || {
            let options = OpOptions { platform: Some(amd64()), ..OpOptions::default() };
            State::image("docker.io/library/app:1", ImageOptions::default(), options)
        };
        let digest = digests::Digest::of("image");
        let found = materials(vec![image()], Some(&digest.to_string()));
        let uri = "pkg:docker/app@1?platform=linux%2Famd64";
        let expected = json!({ "uri": uri, "digest": { "sha256": digest.hex() } });
        assert_eq!(found.list(), [expected]);
        // Of what nobody looked at nothing is known.
        let unknown = materials(vec![image(), http("https://host/f")], None);
        assert!(unknown.list().is_empty() && !unknown.are_complete());
    }

    #[test]
    fn directories_of_clients_have_no_digest() {
        let local = State::local("context", LocalOptions::default(), OpOptions::default());
        let found = materials(vec![local], None);
        assert!(found.list().is_empty() && !found.are_complete());
        assert_eq!(found.locals, BTreeSet::from(["context".to_owned()]));
        assert!(materials(Vec::new(), None).are_complete());
    }
}
