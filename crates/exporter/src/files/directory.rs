//! Files in the client's output directory.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use rustix::fs::FileType;
use session::{SendMode, SendOptions, SendTree, Session};
use snapshot::walk::{Event, TreeError, Walk};

use super::{FileSettings, Output, is_map, outputs, shown};
use crate::attributes::{Attributes, wrong};
use crate::counters::{Counter, Counters};
use crate::exporters::Mechanisms;
use crate::{ExportContext, ExportError, ExportRequest, ExportResult, Exporter};

/// Delivers a result as files in a directory of the client.
#[derive(Debug)]
pub(crate) struct DirectoryExporter {
    mechanisms: Arc<Mechanisms>,
    index: usize,
    settings: FileSettings,
    mode: SendMode,
}

impl DirectoryExporter {
    pub(crate) fn new(
        mechanisms: Arc<Mechanisms>,
        index: usize,
        request: &ExportRequest,
    ) -> Result<Self, ExportError> {
        let settings = FileSettings::parse(request)?;
        let mode = Attributes(&request.attributes).text("mode").unwrap_or_default();
        let mode = match mode.trim().to_ascii_lowercase().as_str() {
            "" | "copy" => SendMode::Merge,
            "delete" => SendMode::Mirror,
            _ => return Err(wrong("mode", mode, "`copy` or `delete`")),
        };
        Ok(Self { mechanisms, index, settings, mode })
    }

    async fn send(
        &self,
        client: &Session,
        trees: Vec<SendTree>,
        epoch: Option<i64>,
        mut counter: Counter,
    ) -> Result<(), ExportError> {
        let modified = epoch.map(|seconds| seconds.saturating_mul(1_000_000_000));
        let options = SendOptions { mode: self.mode, modified };
        let mut progress = |bytes| counter.advance(bytes);
        let sent = client.send_directory(self.index, trees, options, &mut progress).await;
        sent.map(drop).map_err(ExportError::during("send the result to the client"))
    }
}

#[async_trait]
impl Exporter for DirectoryExporter {
    fn title(&self) -> String {
        "exporting to client directory".to_owned()
    }

    async fn export(
        &self,
        result: &ExportResult,
        context: &ExportContext,
    ) -> Result<BTreeMap<String, String>, ExportError> {
        let counters = Counters::new(context);
        let split = self.settings.platform_split.unwrap_or(is_map(result));
        let client = self.mechanisms.client(context).await?;
        let mut outputs = outputs(&self.mechanisms.refs, result, &self.settings).await?;
        if !split && outputs.len() > 1 {
            if self.mode == SendMode::Mirror {
                let reason = "mode=delete cannot put several platforms into one directory: \
                              leave out platform-split=false";
                return Err(ExportError::Result(reason.to_owned()));
            }
            let check = move || check_overlap(&outputs).map(|()| outputs);
            let checked = tasks::blocking("compare platforms", check).await;
            outputs = checked.map_err(ExportError::during("compare platforms"))??;
        }
        // What is sent stays open: a tree may be there only while somebody looks at it.
        let _views: Vec<_> = outputs.iter().map(|output| output.tree.clone()).collect();
        if self.mode == SendMode::Mirror {
            // One stream carries everything, or the client would delete what it just got.
            let epoch = outputs.first().and_then(|output| output.epoch);
            let trees = try_join_all(outputs.into_iter().map(|output| tree(output, split))).await?;
            self.send(&client, trees, epoch, counters.transfer("copying files")).await?;
            return Ok(BTreeMap::new());
        }
        let sends = outputs.into_iter().map(|output| {
            let id = match split {
                true => format!("copying files {}", output.id),
                false => "copying files".to_owned(),
            };
            let (client, counter) = (&client, counters.transfer(id));
            async move {
                let epoch = output.epoch;
                self.send(client, vec![tree(output, split).await?], epoch, counter).await
            }
        });
        try_join_all(sends).await?;
        Ok(BTreeMap::new())
    }
}

async fn tree(output: Output, split: bool) -> Result<SendTree, ExportError> {
    let open = move || {
        let root = output.root()?;
        Ok(SendTree { prefix: split.then(|| output.directory()), root, files: output.files })
    };
    tasks::blocking("open result", open).await.map_err(ExportError::during("open the result"))?
}

/// Returns an error if two platforms have a file of the same path; blocking.
fn check_overlap(outputs: &[Output]) -> Result<(), ExportError> {
    let mut seen: HashMap<PathBuf, &str> = HashMap::new();
    for output in outputs {
        let listed = files(output)?;
        for path in listed {
            if let Some(other) = seen.get(&path) {
                let (path, id) = (shown(&path), &output.id);
                let reason = format!(
                    "cannot overwrite {path} from {other} with {id} when split option is disabled"
                );
                return Err(ExportError::Result(reason));
            }
            seen.insert(path, &output.id);
        }
    }
    Ok(())
}

fn files(output: &Output) -> Result<Vec<PathBuf>, ExportError> {
    let mut listed: Vec<PathBuf> = output.files.iter().map(|(name, _)| name.into()).collect();
    let Some(root) = output.root()? else { return Ok(listed) };
    let mut list = || -> Result<(), TreeError> {
        let mut walk = Walk::new(&root)?;
        while let Some(event) = walk.next()? {
            if let Event::Enter(entry) = event
                && entry.file_type() != FileType::Directory
            {
                listed.push(entry.path().to_path_buf());
            }
        }
        Ok(())
    };
    list().map_err(ExportError::during("read the result"))?;
    Ok(listed)
}
