//! Images and failures as text: nothing in it changes from run to run or from machine to machine.

use std::path::Path;

use anyhow::Context as _;
use integration::{Archive, Entry};
use serde_json::Value;

use crate::case::Case;

/// What the history of the base images begins with.
const OF_THE_BASE: &str = "the harness";

/// Returns the configuration, the history and the layers of an image in an archive, without those of its base.
pub(crate) fn image(archive: &Path, case: &Case) -> anyhow::Result<String> {
    let archive = Archive::open(archive)?;
    let index: Value = serde_json::from_str(&archive.text("index.json")?)?;
    let mut text = String::new();
    let manifests = index["manifests"].as_array().context("an index has manifests")?;
    for manifest in manifests {
        let document: Value = serde_json::from_slice(blob(&archive, manifest)?)?;
        let Some(several) = document["manifests"].as_array() else {
            text.push_str(&one(&archive, &document, case)?);
            continue;
        };
        for manifest in several {
            let document: Value = serde_json::from_slice(blob(&archive, manifest)?)?;
            text.push_str(&format!("= {}\n", platform(&manifest["platform"])));
            text.push_str(&one(&archive, &document, case)?);
        }
    }
    Ok(text)
}

fn blob<'a>(archive: &'a Archive, descriptor: &Value) -> anyhow::Result<&'a [u8]> {
    let digest = descriptor["digest"].as_str().context("a descriptor has a digest")?;
    let path = format!("blobs/{}", digest.replace(':', "/"));
    let entry = archive.entries.get(&path).with_context(|| format!("no blob {digest}"))?;
    Ok(&entry.contents)
}

fn one(archive: &Archive, manifest: &Value, case: &Case) -> anyhow::Result<String> {
    let config: Value = serde_json::from_slice(blob(archive, &manifest["config"])?)?;
    let mut text = String::new();
    let mut put = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for key in ["author", "variant", "os.version"] {
        if let Some(value) = config[key].as_str() {
            put(format!("{key} {value}"));
        }
    }
    if case.times {
        put(format!("created {}", config["created"].as_str().unwrap_or("never")));
    }
    for (key, value) in config["config"].as_object().into_iter().flatten() {
        put(format!("c {key} {value}"));
    }
    let history = config["history"].as_array().cloned().unwrap_or_default();
    let of_the_base = |entry: &&Value| entry["created_by"] == OF_THE_BASE;
    let below = history.iter().filter(of_the_base).count();
    for entry in history.iter().skip(below) {
        let layer = if entry["empty_layer"] == true { ' ' } else { '+' };
        let time = entry["created"].as_str().filter(|_| case.times).unwrap_or_default();
        let words = entry["created_by"].as_str().unwrap_or_default();
        put(format!("h{layer}{time} {words}").trim_end().to_owned());
    }
    for layer in manifest["layers"].as_array().into_iter().flatten().skip(below) {
        put("layer".to_owned());
        for (path, entry) in &Archive::read(blob(archive, layer)?)?.entries {
            put(format!("  {}", self::entry(path, entry, case.times)));
        }
    }
    Ok(text)
}

fn platform(platform: &Value) -> String {
    let part = |key| platform[key].as_str().unwrap_or_default();
    format!("{}/{}", part("os"), part("architecture"))
}

fn entry(path: &str, entry: &Entry, times: bool) -> String {
    let kind = match entry.kind {
        tar::EntryType::Regular => '-',
        tar::EntryType::Directory => 'd',
        tar::EntryType::Symlink => 'l',
        tar::EntryType::Link => 'h',
        _ => '?',
    };
    let mode = entry.mode & 0o7777;
    let mut text = format!("{kind}{mode:o} {}:{} {path}", entry.uid, entry.gid);
    if times {
        text.push_str(&format!(" @{}", entry.mtime));
    }
    if let Some(link) = &entry.link {
        text.push_str(&format!(" -> {link}"));
    }
    match std::str::from_utf8(&entry.contents) {
        Ok(contents) if kind == '-' && contents.len() <= 400 => {
            text.push_str(&format!(" {contents:?}"));
        }
        Ok(_) | Err(_) => {}
    }
    text
}

/// Returns the excerpt and the error at the end of what the client shows.
pub(crate) fn failure(output: &str, registry: &str) -> String {
    let mut lines = output.lines();
    let place = lines.clone().filter(|line| line.contains(" | "));
    let error = lines.rfind(|line| line.starts_with("ERROR: ")).unwrap_or_default();
    let error = error.replace(registry, "registry/");
    // What the client puts before it is the same for all.
    let error = error.trim_start_matches("ERROR: ").trim_start_matches("failed to build: ");
    let error = error.trim_start_matches("failed to solve: ");
    let shown: Vec<_> = place.map(without_digests).chain([without_digests(error)]).collect();
    format!("! {}\n", shown.join("\n! ").replace(registry, "registry/"))
}

/// Replaces the identities that differ from run to run.
fn without_digests(text: &str) -> String {
    let is_identity = |part: &&str| {
        part.len() >= 24 && part.chars().all(|character| character.is_ascii_alphanumeric())
    };
    let parts = text.split(|character: char| !character.is_ascii_alphanumeric());
    parts.filter(is_identity).fold(text.to_owned(), |text, part| text.replace(part, "…"))
}
