//! Giving results to the client.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use bytes::Bytes;
use mount::{HostPath, RootDir};
use proptest::prelude::*;
use session::testing::{ConnectedClient, FakeClient};
use session::{
    Outcome, SendMode, SendOptions, SendTree, Sent, SessionError, Sessions, TransferError,
};
use tokio::io::AsyncWriteExt as _;

use crate::trees::{Edit, edits, look};

async fn connect(client: FakeClient) -> ConnectedClient {
    client.connect(&Sessions::new(), "s").await.unwrap()
}

fn tree(prefix: Option<&str>, directory: &tempfile::TempDir) -> SendTree {
    let root = RootDir::open(&HostPath::new(directory.path()).unwrap()).unwrap();
    SendTree { prefix: prefix.map(str::to_owned), root: Some(root), files: Vec::new() }
}

async fn send(
    client: &ConnectedClient,
    trees: Vec<SendTree>,
    options: SendOptions,
) -> Result<Sent, TransferError> {
    client.session().send_directory(0, trees, options, &mut |_| {}).await
}

/// Returns the names and contents below a directory.
fn contents(directory: &tempfile::TempDir) -> BTreeMap<String, String> {
    look(directory.path())
        .into_keys()
        .filter_map(|path| {
            let content = fs::read_to_string(directory.path().join(&path)).ok()?;
            Some((path, content))
        })
        .collect()
}

#[tokio::test]
async fn a_tree_arrives_beside_what_is_there_or_instead_of_it() {
    let source = tempfile::tempdir().unwrap();
    let at = |path: &str| source.path().join(path);
    fs::create_dir(at("bin")).unwrap();
    fs::write(at("bin/app"), vec![b'x'; 100_000]).unwrap();
    fs::hard_link(at("bin/app"), at("bin/twin")).unwrap();
    symlink("bin/app", at("start")).unwrap();
    for mirrors in [false, true] {
        let output = tempfile::tempdir().unwrap();
        fs::write(output.path().join("old"), "old").unwrap();
        let (client, mode) = if mirrors {
            (FakeClient::new().with_mirror(0, output.path()), SendMode::Mirror)
        } else {
            (FakeClient::new().with_output_directory(0, output.path()), SendMode::Merge)
        };
        let client = connect(client).await;
        let options = SendOptions { mode, ..SendOptions::default() };
        let sent = send(&client, vec![tree(None, &source)], options).await.unwrap();
        assert_eq!(sent.entries, 4);
        assert!(sent.bytes > 100_000);
        assert_eq!(output.path().join("old").exists(), !mirrors);
        assert_eq!(contents(&output)["bin/twin"].len(), 100_000);
        assert_eq!(fs::read_link(output.path().join("start")).unwrap().to_str(), Some("bin/app"));
    }
}

#[tokio::test]
async fn platforms_and_attestations_share_a_stream() {
    let (amd, arm, output) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(amd.path().join("z"), "amd").unwrap();
    fs::hard_link(amd.path().join("z"), amd.path().join("zz")).unwrap();
    fs::write(arm.path().join("provenance.json"), "replaced").unwrap();
    fs::write(arm.path().join("a"), "arm").unwrap();
    let client = connect(FakeClient::new().with_mirror(0, output.path())).await;
    let files = |text: &'static str| {
        vec![
            ("sbom.spdx.json".to_owned(), Bytes::new()),
            ("provenance.json".to_owned(), Bytes::from_static(text.as_bytes())),
        ]
    };
    let trees = vec![
        SendTree { files: files("for arm"), ..tree(Some("linux_arm64"), &arm) },
        SendTree { files: files("for amd"), ..tree(Some("linux_amd64"), &amd) },
        SendTree { prefix: Some("none".to_owned()), root: None, files: files("alone") },
    ];
    let options = SendOptions { mode: SendMode::Mirror, modified: Some(1_000_000_000) };
    send(&client, trees, options).await.unwrap();
    let expected = [
        ("linux_amd64/provenance.json", "for amd"),
        ("linux_amd64/sbom.spdx.json", ""),
        ("linux_amd64/z", "amd"),
        ("linux_amd64/zz", "amd"),
        ("linux_arm64/a", "arm"),
        ("linux_arm64/provenance.json", "for arm"),
        ("linux_arm64/sbom.spdx.json", ""),
        ("none/provenance.json", "alone"),
        ("none/sbom.spdx.json", ""),
    ];
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    assert_eq!(contents(&output), expected);
}

#[tokio::test]
async fn trees_that_overlap_are_refused() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let client = connect(FakeClient::new().with_output_directory(0, output.path())).await;
    for trees in [
        vec![tree(None, &source), tree(Some("a"), &source)],
        vec![tree(Some("a"), &source), tree(Some("a"), &source)],
        vec![tree(Some(".."), &source)],
        vec![tree(Some("a/b"), &source)],
    ] {
        let error = send(&client, trees, SendOptions::default()).await.unwrap_err();
        assert!(matches!(error, TransferError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_client_that_refuses_or_vanishes_ends_the_transfer() {
    let (source, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    fs::write(source.path().join("f"), vec![1; 1_000_000]).unwrap();
    // The output "directory" is a file, so the client cannot write into it.
    let client = connect(FakeClient::new().with_output_directory(0, file.path())).await;
    let error = send(&client, vec![tree(None, &source)], SendOptions::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, TransferError::Session(SessionError::Refused { .. })), "{error:?}");
    client.vanish();
    client.session().closed().await;
    let error = send(&client, vec![tree(None, &source)], SendOptions::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, TransferError::Session(SessionError::Ended(_))), "{error:?}");
    let none = connect(FakeClient::new()).await;
    let error = send(&none, vec![tree(None, &source)], SendOptions::default()).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "method /moby.filesync.v1.FileSend/DiffCopy not supported by the client"
    );
}

#[tokio::test]
async fn a_file_arrives_with_its_metadata() {
    let client = connect(FakeClient::new().with_output_file(3)).await;
    let metadata = BTreeMap::from([("containerimage.digest".to_owned(), "sha256:x".to_owned())]);
    let mut file = client.session().send_file(3, &metadata).unwrap();
    let data: Vec<u8> = (0..5_000_000u32).map(|number| number as u8).collect();
    file.write_all(&data).await.unwrap();
    assert_eq!(file.finish().await.unwrap(), Outcome::Stored);
    let record = client.take_record();
    assert_eq!(record.files[&3], data);
    let told = ("exporter-md-containerimage.digest".to_owned(), "sha256:x".to_owned());
    assert!(record.sends[0].contains(&told), "{:?}", record.sends);
}

#[tokio::test]
async fn a_file_that_is_there_already_is_skipped_without_an_error() {
    let client = connect(FakeClient::new().with_existing_output(0)).await;
    let mut file = client.session().send_file(0, &BTreeMap::new()).unwrap();
    file.write_all(&vec![0; 5_000_000]).await.unwrap();
    assert_eq!(file.finish().await.unwrap(), Outcome::Skipped);
}

#[tokio::test]
async fn a_file_that_is_broken_off_is_not_taken_for_complete() {
    let client = connect(FakeClient::new().with_output_file(0).with_output_file(1)).await;
    for _ in 0..20 {
        let mut file = client.session().send_file(0, &BTreeMap::new()).unwrap();
        file.write_all(b"the first half").await.unwrap();
        file.shutdown().await.unwrap();
        tokio::task::yield_now().await;
        drop(file);
        let mut other = client.session().send_file(1, &BTreeMap::new()).unwrap();
        other.write_all(b"whole").await.unwrap();
        other.finish().await.unwrap();
    }
    // Each is told, sooner or later.
    while client.record().broken.len() < 20 {
        tokio::task::yield_now().await;
    }
    let record = client.take_record();
    assert_eq!(record.files.into_iter().collect::<Vec<_>>(), [(1, Bytes::from_static(b"whole"))]);
}

#[tokio::test]
async fn a_refused_file_says_why_when_it_is_finished() {
    let client = connect(FakeClient::new().with_output_file(0)).await;
    let mut file = client.session().send_file(1, &BTreeMap::new()).unwrap();
    assert!(file.write_all(&vec![0; 50_000_000]).await.is_err());
    assert_eq!(file.finish().await.unwrap_err().to_string(), "exporter 1 not found");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_can_be_sent(edits in edits()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            edits
                .iter()
                .filter(|edit| !matches!(edit, Edit::Fifo(_) | Edit::Symlink(..)))
                .for_each(|edit| edit.apply(source.path()));
            let client = connect(FakeClient::new().with_mirror(0, output.path())).await;
            let options = SendOptions { mode: SendMode::Mirror, modified: None };
            send(&client, vec![tree(None, &source)], options).await.unwrap();
            assert_eq!(contents(&output), contents(&source));
        });
    }
}
