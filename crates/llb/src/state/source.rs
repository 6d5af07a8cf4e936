//! Trees that come from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use digests::Digest;

use super::{Body, Node, OpOptions, State};
use crate::{Op, SourceOp};

/// When the registry is asked about an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResolveMode {
    /// As the daemon sees fit.
    #[default]
    Default,
    /// Always.
    Pull,
    /// Only when the image is not there.
    Local,
}

/// What an image is for, as disk usage shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordType {
    /// What the user named.
    #[default]
    Regular,
    /// Something the build needs for itself.
    Internal,
    /// A frontend.
    Frontend,
}

/// How an image is brought in.
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// When the registry is asked.
    pub resolve_mode: ResolveMode,
    /// What it is for.
    pub record_type: RecordType,
    /// Take only that many layers.
    pub layer_limit: Option<u32>,
    /// The digest that the manifest must have.
    pub checksum: Option<Digest>,
}

/// How a client's directory is brought in.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// The session that has the directory; empty is the build's.
    pub session: String,
    /// What makes the operation different from all others when there is no session.
    pub unique: String,
    /// Patterns of what to send; empty is everything.
    pub include_patterns: Vec<String>,
    /// Patterns of what not to send.
    pub exclude_patterns: Vec<String>,
    /// Paths to send with all that their symbolic links lead to; empty is everything.
    pub follow_paths: Vec<String>,
    /// What tells this use of the directory from others when a received tree is reused.
    pub shared_key_hint: String,
    /// How the tree is compared with one that was received before.
    pub differ: Option<Differ>,
    /// Send only what is known about the files, except for these paths.
    pub metadata_only: Option<Vec<String>>,
}

/// How a tree is compared with one that was received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differ {
    /// Not at all: everything is sent.
    None,
    /// By what is known about the files: size, time, owner.
    Metadata,
}

/// How a file from the web is brought in.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// The digest that the file must have.
    pub checksum: Option<Digest>,
    /// Its name; empty is the server's.
    pub filename: String,
    /// Its permissions.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The secret that holds the `Authorization` header.
    pub auth_header_secret: String,
    /// Headers to send, by name: `accept` and `user-agent` only.
    pub headers: BTreeMap<String, String>,
}

/// How an image of the client's is brought in.
#[derive(Debug, Clone, Default)]
pub struct OciLayoutOptions {
    /// The session that has the store; empty is the build's.
    pub session: String,
    /// The store.
    pub store: String,
    /// Take only that many layers.
    pub layer_limit: Option<u32>,
}

/// Attributes and capabilities, as options are gone through.
#[derive(Default)]
pub(super) struct Attributes {
    values: BTreeMap<String, String>,
    caps: BTreeSet<&'static str>,
}

impl Attributes {
    pub(super) fn cap(&mut self, cap: &'static str) -> &mut Self {
        self.caps.insert(cap);
        self
    }

    /// Adds a value that is not empty, and the capability that it needs, if any.
    pub(super) fn text(&mut self, key: &str, value: &str, cap: Option<&'static str>) -> &mut Self {
        if !value.is_empty() {
            self.values.insert(key.to_owned(), value.to_owned());
            self.caps.extend(cap);
        }
        self
    }

    pub(super) fn flag(&mut self, key: &str, value: bool, cap: &'static str) -> &mut Self {
        self.text(key, if value { "true" } else { "" }, Some(cap))
    }

    fn number(&mut self, key: &str, value: Option<u32>, cap: Option<&'static str>) -> &mut Self {
        self.text(key, &value.map(|value| value.to_string()).unwrap_or_default(), cap)
    }

    fn list(&mut self, key: &str, values: &[String], cap: Option<&'static str>) -> &mut Self {
        let text = if values.is_empty() { String::new() } else { json_list(values) };
        self.text(key, &text, cap)
    }

    pub(super) fn state(self, identifier: String, options: OpOptions) -> State {
        let source = SourceOp { identifier, attributes: self.values };
        let platform = options.platform.clone().map(Arc::new);
        let node = Node::new(Vec::new(), Body::Op(Op::Source(source)), options, self.caps);
        State::output_of(node, 0, platform)
    }
}

/// Returns a JSON list as Go writes it: digests depend on it.
fn json_list(values: &[String]) -> String {
    let text = serde_json::Value::from(values.to_vec()).to_string();
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

impl State {
    /// Returns the result of a source operation as it is given, without capabilities.
    pub fn source(source: SourceOp, options: OpOptions) -> Self {
        Attributes { values: source.attributes, caps: BTreeSet::new() }
            .state(source.identifier, options)
    }

    /// Returns the file tree of an image, whose `reference` is fully qualified.
    pub fn image(reference: &str, image: ImageOptions, options: OpOptions) -> Self {
        let mode = match image.resolve_mode {
            ResolveMode::Default => "",
            ResolveMode::Pull => "pull",
            ResolveMode::Local => "local",
        };
        let record = match image.record_type {
            RecordType::Regular => "",
            RecordType::Internal => "internal",
            RecordType::Frontend => "frontend",
        };
        let checksum = image.checksum.map(|digest| digest.to_string()).unwrap_or_default();
        let mode_cap =
            (image.resolve_mode == ResolveMode::Pull).then_some("source.image.resolvemode");
        let mut attributes = Attributes::default();
        attributes
            .cap("source.image")
            .text("image.resolvemode", mode, mode_cap)
            .text("image.recordtype", record, None)
            .number("image.layerlimit", image.layer_limit, Some("source.image.layerlimit"))
            .text("image.checksum", &checksum, Some("source.image.checksum"));
        attributes.state(format!("docker-image://{reference}"), options)
    }

    /// Returns a directory of the client's.
    pub fn local(name: &str, local: LocalOptions, options: OpOptions) -> Self {
        let mut attributes = Attributes::default();
        attributes
            .cap("source.local")
            .text("local.session", &local.session, Some("source.local.sessionid"))
            .list(
                "local.includepattern",
                &local.include_patterns,
                Some("source.local.includepatterns"),
            )
            .list("local.followpaths", &local.follow_paths, Some("source.local.followpaths"))
            .list(
                "local.excludepatterns",
                &local.exclude_patterns,
                Some("source.local.excludepatterns"),
            )
            .text(
                "local.sharedkeyhint",
                &local.shared_key_hint,
                Some("source.local.sharedkeyhint"),
            );
        if local.session.is_empty() {
            attributes.values.insert("local.unique".to_owned(), local.unique);
            attributes.cap("source.local.unique");
        }
        let differ = match local.differ {
            None => "",
            Some(Differ::None) => "none",
            Some(Differ::Metadata) => "metadata",
        };
        attributes.text("local.differ", differ, None);
        if let Some(except) = &local.metadata_only {
            attributes.flag("local.metadatatransfer", true, "source.local.metadatatransfer").list(
                "local.metadatatransferexclude",
                except,
                None,
            );
        }
        attributes.state(format!("local://{name}"), options)
    }

    /// Returns a tree with one file from the web.
    pub fn http(url: &str, http: HttpOptions, options: OpOptions) -> Self {
        let checksum = http.checksum.map(|digest| digest.to_string()).unwrap_or_default();
        let mode = http.mode.filter(|mode| *mode != 0);
        let mode = mode.map(|mode| format!("0{mode:o}")).unwrap_or_default();
        let id = |id: u32| (id != 0).then_some(id);
        let mut attributes = Attributes::default();
        attributes
            .cap("source.http")
            .text("http.checksum", &checksum, Some("source.http.checksum"))
            .text("http.filename", &http.filename, None)
            .text("http.perm", &mode, Some("source.http.perm"))
            // The name of this capability is misspelled on the wire.
            .number("http.uid", id(http.uid), Some("soruce.http.uidgid"))
            .number("http.gid", id(http.gid), Some("soruce.http.uidgid"))
            .text("http.authheadersecret", &http.auth_header_secret, Some("source.http.auth"));
        for (name, value) in &http.headers {
            let key = format!("http.header.{}", name.to_ascii_lowercase());
            attributes.text(&key, value, Some("source.http.header"));
        }
        attributes.state(url.to_owned(), options)
    }

    /// Returns the file tree of an image in a store of the client's; `reference` has a digest.
    pub fn oci_layout(reference: &str, layout: OciLayoutOptions, options: OpOptions) -> Self {
        let mut attributes = Attributes::default();
        attributes
            .cap("source.ocilayout")
            .text("oci.session", &layout.session, None)
            .text("oci.store", &layout.store, None)
            .number("oci.layerlimit", layout.layer_limit, None);
        attributes.state(format!("oci-layout://{reference}"), options)
    }
}
