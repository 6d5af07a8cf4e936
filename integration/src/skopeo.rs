//! Images as somebody else's tool reads them, and what is in their layers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tar::EntryType;
use tempfile::TempDir;

use crate::Program;

/// An image as `skopeo` delivers it.
#[derive(Debug)]
pub struct Image {
    /// What the name itself stands for: a manifest or an index.
    pub top: Value,
    /// The manifest for this machine's platform.
    pub manifest: Value,
    /// The configuration.
    pub config: Value,
    /// The layers, from the lowest.
    pub layers: Vec<Archive>,
}

impl Image {
    /// Reads an image, such as `docker://host/name` or `oci-archive:/path`.
    ///
    /// # Errors
    /// Fails if the tool does not take it for an image, or a layer is no archive.
    pub fn read(source: &str) -> anyhow::Result<Self> {
        let scratch = TempDir::with_prefix("larder-image-")?;
        let place = scratch.path().join("image");
        let insecure = source.starts_with("docker://");
        let mut copy = Program::new("skopeo").args(["copy", "--quiet"]);
        let mut inspect = Program::new("skopeo").args(["inspect", "--raw"]);
        if insecure {
            copy = copy.arg("--src-tls-verify=false");
            inspect = inspect.arg("--tls-verify=false");
        }
        copy.arg(source).arg(format!("dir:{}", place.display())).succeed()?;
        let top = serde_json::from_str(&inspect.arg(source).succeed()?)?;
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().context("a descriptor has a digest")?;
            let hex = digest.trim_start_matches("sha256:");
            fs::read(place.join(hex)).with_context(|| format!("blob {digest}"))
        };
        let manifest: Value = serde_json::from_slice(&fs::read(place.join("manifest.json"))?)?;
        let config = serde_json::from_slice(&blob(&manifest["config"])?)?;
        let layers = manifest["layers"].as_array().context("a manifest has layers")?;
        let layers = layers.iter().map(|layer| Archive::read(&blob(layer)?));
        let layers = layers.collect::<anyhow::Result<_>>()?;
        Ok(Self { top, manifest, config, layers })
    }

    /// Returns what a container of the image sees at `path`.
    pub fn file(&self, path: &str) -> Option<&Entry> {
        self.layers.iter().rev().find_map(|layer| layer.entries.get(path))
    }

    /// Returns the text of a file that a container of the image sees at `path`.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        let entry = self.file(path).with_context(|| format!("the image has no `{path}`"))?;
        Ok(String::from_utf8_lossy(&entry.contents).into_owned())
    }

    /// Returns the media types of the layers.
    pub fn layer_types(&self) -> Vec<&str> {
        let layers = self.manifest["layers"].as_array().into_iter().flatten();
        layers.filter_map(|layer| layer["mediaType"].as_str()).collect()
    }
}

/// Returns what is said of an image of this machine's platform in its index: whole statements, in order.
///
/// # Errors
/// Fails if the tool does not take it for an image, or nothing is said of it.
pub fn statements(source: &str) -> anyhow::Result<Vec<Value>> {
    let scratch = TempDir::with_prefix("larder-image-")?;
    let place = scratch.path().join("image");
    Program::new("skopeo")
        .args(["copy", "--quiet", "--all", "--src-tls-verify=false", source])
        .arg(format!("dir:{}", place.display()))
        .succeed()?;
    let read = |name: &str| -> anyhow::Result<Value> {
        let bytes = fs::read(place.join(name)).with_context(|| name.to_owned())?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let hex = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        digest.trim_start_matches("sha256:").to_owned()
    };
    let index = read("manifest.json")?;
    let mut entries = index["manifests"].as_array().into_iter().flatten();
    let is_attestation = |entry: &&Value| {
        entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest"
    };
    let entry = entries.find(is_attestation).context("nothing is said of the image")?;
    let manifest = read(&format!("{}.manifest.json", hex(entry)))?;
    let layers = manifest["layers"].as_array().context("a manifest has layers")?;
    layers.iter().map(|layer| read(&hex(layer))).collect()
}

/// What an archive holds.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// Its entries by path, without `./` and a slash at the end.
    pub entries: BTreeMap<String, Entry>,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kind of file.
    pub kind: EntryType,
    /// Its mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// When it was changed, in seconds.
    pub mtime: u64,
    /// What a link points at.
    pub link: Option<String>,
    /// Its extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// What a file holds.
    pub contents: Vec<u8>,
}

impl Archive {
    /// Reads an archive, compressed or not.
    ///
    /// # Errors
    /// Fails if it is none.
    pub fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let reader: Box<dyn Read> = match bytes {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(bytes)?),
            _ => Box::new(Cursor::new(bytes)),
        };
        let mut archive = Self::default();
        for entry in tar::Archive::new(reader).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let path = path.trim_start_matches("./").trim_matches('/').to_owned();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents)?;
            let link = entry.link_name()?.map(|link| link.to_string_lossy().into_owned());
            let attributes = attributes(&mut entry)?;
            let header = entry.header();
            let read = Entry {
                kind: header.entry_type(),
                mode: header.mode()?,
                uid: header.uid()?,
                gid: header.gid()?,
                mtime: header.mtime()?,
                link,
                attributes,
                contents,
            };
            archive.entries.insert(path, read);
        }
        Ok(archive)
    }

    /// Reads the archive in a file.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
        Self::read(&bytes).with_context(|| format!("{}", path.display()))
    }

    /// Returns the text of a file.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        let entry = self.entries.get(path);
        let entry = entry.with_context(|| format!("no `{path}` in {:?}", self.entries.keys()))?;
        Ok(String::from_utf8_lossy(&entry.contents).into_owned())
    }
}

/// Returns the extended attributes of an entry.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        if let Some(name) = record.key()?.strip_prefix("SCHILY.xattr.") {
            found.insert(name.to_owned(), record.value_bytes().to_vec());
        }
    }
    Ok(found)
}
