//! Plain files: a result's trees as the client has them on its disk, without layers.

mod directory;
mod tarball;
mod tree_archive;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use cache::{ImmutableRef, Refs, TreeView};
use digests::DigestWriter;
use mount::RootDir;
use rustix::fs::FileType;
use snapshot::walk::{Event, TreeError, Walk};

pub(crate) use self::directory::DirectoryExporter;
pub(crate) use self::tarball::TarExporter;
use crate::attributes::{Attributes, Epoch};
use crate::image::{Subject, in_order, indented};
use crate::{ExportError, ExportRefs, ExportRequest, ExportResult, Statement};

/// Settings of both forms.
#[derive(Debug, Clone)]
struct FileSettings {
    /// Goes before the names of files of attestations.
    attestation_prefix: String,
    /// Whether each platform has a directory of its own; if not said, when there are several.
    platform_split: Option<bool>,
    epoch: Epoch,
}

impl FileSettings {
    fn parse(request: &ExportRequest) -> Result<Self, ExportError> {
        let attributes = Attributes(&request.attributes);
        Ok(Self {
            attestation_prefix: attributes
                .text("attestation-prefix")
                .unwrap_or_default()
                .to_owned(),
            platform_split: attributes.boolean("platform-split")?,
            epoch: attributes.epoch()?,
        })
    }
}

/// What one platform's files are.
#[derive(Debug)]
struct Output {
    /// The platform's id.
    id: String,
    /// The tree; none if there is nothing in it.
    tree: Option<TreeView>,
    /// Files beside those of the tree, by name.
    files: Vec<(String, Bytes)>,
    /// The time of everything, in seconds since 1970; none to leave it.
    epoch: Option<i64>,
}

impl Output {
    /// Returns the name of the directory for this platform: `linux_amd64`.
    fn directory(&self) -> String {
        self.id.replace('/', "_")
    }

    /// Opens the tree; blocking.
    fn root(&self) -> Result<Option<RootDir>, ExportError> {
        let root = self.tree.as_ref().map(TreeView::root).transpose();
        root.map_err(ExportError::during("open the result"))
    }
}

/// Returns true for a result that may have several platforms.
const fn is_map(result: &ExportResult) -> bool {
    matches!(result.refs, ExportRefs::ByPlatform(_))
}

/// Returns the files of all platforms, in the order of the result.
async fn outputs(
    refs: &Refs,
    result: &ExportResult,
    settings: &FileSettings,
) -> Result<Vec<Output>, ExportError> {
    let split = settings.platform_split.unwrap_or(is_map(result));
    let mut outputs = Vec::new();
    for (id, tree, _) in in_order(result) {
        let epoch = settings.epoch.of(&result.metadata, &id, result.source_date_epoch)?;
        let tree = view(refs, tree).await?;
        let mut output = Output { id, tree, files: Vec::new(), epoch };
        let statements = result.attestations.get(&output.id).map_or(&[][..], Vec::as_slice);
        let mut said = Vec::new();
        for statement in statements.iter().filter(|statement| !statement.inline_only) {
            said.push((statement.clone(), statement.predicate.read().await));
        }
        if !said.is_empty() {
            let mark = (is_map(result) && !split).then(|| output.directory());
            let prefix = settings.attestation_prefix.clone();
            let write = move || {
                output.files = attestations(&output, &said, &prefix, mark.as_deref())?;
                Ok(output)
            };
            let written = tasks::blocking("write attestations", write).await;
            output = written.map_err(ExportError::during("write attestations"))??;
        }
        outputs.push(output);
    }
    Ok(outputs)
}

async fn view(refs: &Refs, tree: &ImmutableRef) -> Result<Option<TreeView>, ExportError> {
    if tree.is_empty() {
        return Ok(None);
    }
    refs.view(tree).await.map(Some).map_err(ExportError::during("open the result"))
}

/// Returns the files of the statements with what they say, which are about each file of the tree; blocking.
fn attestations(
    output: &Output,
    statements: &[(Statement, Bytes)],
    prefix: &str,
    mark: Option<&str>,
) -> Result<Vec<(String, Bytes)>, ExportError> {
    let subjects = match output.root()? {
        Some(root) => subjects(&root).map_err(ExportError::during("read the result"))?,
        None => Vec::new(),
    };
    let mut names = BTreeSet::new();
    let mut files = Vec::with_capacity(statements.len());
    for (statement, said) in statements {
        let name = file_name(&statement.path, prefix, mark);
        if !names.insert(name.clone()) {
            let reason = format!("duplicate attestation path name {name}");
            return Err(ExportError::Result(reason));
        }
        files.push((name, indented(statement, said, &subjects)?.into()));
    }
    Ok(files)
}

/// Returns the name of the file of a statement; `mark` goes before its extension.
fn file_name(path: &str, prefix: &str, mark: Option<&str>) -> String {
    let base = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("attestation.json");
    let name = format!("{prefix}{base}");
    let Some(mark) = mark else { return name };
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{mark}.{extension}"),
        None => format!("{name}.{mark}"),
    }
}

/// Returns all regular files of a tree with their digests; blocking.
fn subjects(root: &RootDir) -> Result<Vec<Subject>, TreeError> {
    let mut found = Vec::new();
    let mut walk = Walk::new(root)?;
    while let Some(event) = walk.next()? {
        let Event::Enter(entry) = event else { continue };
        if entry.file_type() != FileType::RegularFile {
            continue;
        }
        let mut hash = DigestWriter::new(std::io::sink());
        std::io::copy(&mut entry.open()?, &mut hash)
            .map_err(TreeError::at("read", entry.path()))?;
        let (_, digest, _) = hash.finish();
        found.push(Subject::new(shown(entry.path()), &[digest]));
    }
    Ok(found)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attestations_have_names() {
        for (path, prefix, mark, expected) in [
            ("provenance.json", "", None, "provenance.json"),
            ("out/sbom.spdx.json", "app-", None, "app-sbom.spdx.json"),
            ("provenance.json", "", Some("linux_arm64"), "provenance.linux_arm64.json"),
            ("sbom", "x.", Some("linux_arm64"), "x.linux_arm64.sbom"),
            ("sbom", "", Some("linux_arm64"), "sbom.linux_arm64"),
            ("../../etc/passwd", "", None, "passwd"),
            ("", "", None, "attestation.json"),
        ] {
            assert_eq!(file_name(path, prefix, mark), expected, "{path}");
        }
    }
}
