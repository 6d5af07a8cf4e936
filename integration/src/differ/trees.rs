//! Archives and images as lines: one for each file, with all that a container would see of it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::documents;
use super::outcome::Outcome;
use crate::{Archive, Entry, Program};

/// A file that is younger was written by the build.
const YOUNG: u64 = 24 * 60 * 60;
/// Longer contents are shown by their hash.
const SHOWN: usize = 100;

/// Writes down what a build left at `path`: an image, an archive of files, or a directory.
pub(crate) fn describe_output(path: &Path, outcome: &mut Outcome) -> anyhow::Result<()> {
    if !path.exists() {
        outcome.add("output", "none");
        return Ok(());
    }
    let scratch = TempDir::with_prefix("larder-output-")?;
    let archive = if path.is_dir() {
        let packed = scratch.path().join("packed");
        let tar = Program::new("tar").args(["--numeric-owner", "--xattrs", "-cf"]).arg(&packed);
        tar.arg("-C").arg(path).arg(".").succeed()?;
        Archive::open(&packed)?
    } else {
        Archive::open(path)?
    };
    match archive.entries.get("index.json") {
        Some(index) => {
            let index = serde_json::from_slice(&index.contents)?;
            describe_index(&archive, &index, "index", outcome)
        }
        None => {
            describe_archive(&archive, "file", outcome);
            Ok(())
        }
    }
}

fn describe_index(
    archive: &Archive,
    index: &Value,
    place: &str,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    documents::describe(index, place, outcome);
    for (number, descriptor) in index["manifests"].as_array().into_iter().flatten().enumerate() {
        let document = blob(archive, descriptor)?;
        let document: Value = serde_json::from_slice(document)?;
        let below = format!("{place} {number}");
        if document["manifests"].is_array() {
            describe_index(archive, &document, &below, outcome)?;
        } else {
            describe_manifest(archive, &document, &below, outcome)?;
        }
    }
    Ok(())
}

fn describe_manifest(
    archive: &Archive,
    manifest: &Value,
    place: &str,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    documents::describe(manifest, &format!("{place} manifest"), outcome);
    let config: Value = serde_json::from_slice(blob(archive, &manifest["config"])?)?;
    documents::describe(&config, &format!("{place} config"), outcome);
    for (number, layer) in manifest["layers"].as_array().into_iter().flatten().enumerate() {
        let place = format!("{place} layer {number}");
        let bytes = blob(archive, layer)?;
        if layer["mediaType"].as_str().is_some_and(|kind| kind.contains("json")) {
            documents::describe(&serde_json::from_slice(bytes)?, &place, outcome);
        } else if number > 0 || !is_base_layer(&config) {
            describe_archive(&Archive::read(bytes)?, &place, outcome);
        }
    }
    Ok(())
}

/// Returns whether the first layer is that of a base image, which nobody built.
fn is_base_layer(config: &Value) -> bool {
    config["history"][0]["created_by"] == "the harness"
}

fn blob<'a>(archive: &'a Archive, descriptor: &Value) -> anyhow::Result<&'a [u8]> {
    let digest = descriptor["digest"].as_str().context("a descriptor has a digest")?;
    let path = format!("blobs/{}", digest.replace(':', "/"));
    let entry = archive.entries.get(&path).with_context(|| format!("no {path} in the image"))?;
    Ok(&entry.contents)
}

fn describe_archive(archive: &Archive, place: &str, outcome: &mut Outcome) {
    for (path, entry) in &archive.entries {
        outcome.add(place, &describe_entry(path, entry));
    }
}

fn describe_entry(path: &str, entry: &Entry) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = if entry.mtime + YOUNG > now { "now".to_owned() } else { entry.mtime.to_string() };
    let kind = format!("{:?}", entry.kind).to_lowercase();
    let mut text = format!("/{path} {kind} {:o} {}:{}", entry.mode, entry.uid, entry.gid);
    let _ = write!(text, " at {time}");
    if let Some(link) = &entry.link {
        let _ = write!(text, " to {link}");
    }
    for (name, value) in &entry.attributes {
        let _ = write!(text, " {name}={}", hex(value));
    }
    match std::str::from_utf8(&entry.contents) {
        _ if entry.contents.is_empty() => {}
        Ok(contents) if contents.len() <= SHOWN => {
            let _ = write!(text, " {contents:?}");
        }
        _ => {
            let hash = hex(&Sha256::digest(&entry.contents));
            let _ = write!(text, " {} bytes {}", entry.contents.len(), &hash[..12]);
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
