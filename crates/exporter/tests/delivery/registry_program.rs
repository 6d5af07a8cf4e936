//! A real registry and a real reader of images, where their programs are installed.

use std::io::ErrorKind;
use std::process::{Output, Stdio};
use std::sync::Arc;

use exporter::Exporters;
use registry::{HttpRegistry, RegistryConfig};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::workbench::{Workbench, request, single, with_statement};

/// Runs `skopeo`; none if it is not installed.
pub(crate) async fn skopeo(arguments: &[&str]) -> Option<Output> {
    match Command::new("skopeo").args(arguments).output().await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: `skopeo` is not installed");
            None
        }
        output => Some(output.unwrap()),
    }
}

/// Returns what `skopeo inspect` says of an image; none if it is not installed.
pub(crate) async fn inspect(arguments: &[&str]) -> Option<Value> {
    let output = skopeo(&[&["inspect"], arguments].concat()).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// A registry program that runs until this is dropped.
struct Program {
    host: String,
    _child: Child,
    _directory: TempDir,
}

impl Program {
    /// Starts the program; none if it is not installed.
    async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            directory.path().join("content").display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: `docker-registry` is not installed");
                return None;
            }
            child => child.unwrap(),
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let host = rest.split(['"', ' ', ',']).next().unwrap().to_owned();
                // Nobody else reads the rest of the log, and a full pipe would stop the program.
                tasks::spawn("read log", async move {
                    while let Ok(Some(_)) = lines.next_line().await {}
                })
                .detach();
                return Some(Self { host, _child: child, _directory: directory });
            }
        }
        panic!("the registry did not start");
    }
}

#[tokio::test]
async fn a_real_registry_takes_an_image_with_attestations() {
    let Some(program) = Program::start().await else { return };
    let bench = Workbench::new().await;
    let http = Arc::new(HttpRegistry::new(RegistryConfig::default()));
    let exporters = Exporters::new(bench.refs.clone(), bench.sessions.clone(), http);
    let tree = bench.two_layers().await;
    for (attribute, value) in
        [("oci-artifact", "true"), ("oci-artifact", "false"), ("compression", "zstd")]
    {
        let result = with_statement(single(tree.clone()), "linux/amd64", true);
        let name = format!("{}/team/app:v1", program.host);
        let attributes = [("name", name.as_str()), ("push", "true"), (attribute, value)];
        let exporter = exporters.resolve(0, &request("image", &attributes)).unwrap();
        let context = exporter::ExportContext {
            sessions: Vec::new(),
            progress: Arc::new(bench.feed.clone()),
            vertex: digests::Digest::of("line"),
        };
        let response = exporter.export(&result, &context).await.unwrap();
        let image = format!("docker://{name}");
        let Some(index) = inspect(&["--tls-verify=false", "--raw", &image]).await else { return };
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
        let image =
            format!("docker://{}/team/app@{}", program.host, response["containerimage.digest"]);
        let arguments =
            ["--tls-verify=false", "--override-os=linux", "--override-arch=amd64", &image];
        let seen = inspect(&arguments).await.unwrap();
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn docker_media_types_reach_a_real_registry() {
    let Some(program) = Program::start().await else { return };
    let bench = Workbench::new().await;
    let http = Arc::new(HttpRegistry::new(RegistryConfig::default()));
    let exporters = Exporters::new(bench.refs.clone(), bench.sessions.clone(), http);
    let result = single(bench.two_layers().await);
    let name = format!("{}/app", program.host);
    let attributes = [("name", name.as_str()), ("push", "true"), ("oci-mediatypes", "false")];
    let exporter = exporters.resolve(0, &request("image", &attributes)).unwrap();
    let context = exporter::ExportContext {
        sessions: Vec::new(),
        progress: Arc::new(progress::NullSink),
        vertex: digests::Digest::of("line"),
    };
    let response = exporter.export(&result, &context).await.unwrap();
    let image = format!("docker://{name}:latest");
    let arguments = ["--tls-verify=false", "--override-arch=amd64", &image];
    let Some(seen) = inspect(&arguments).await else { return };
    assert_eq!(seen["Digest"], response["containerimage.digest"]);
}
