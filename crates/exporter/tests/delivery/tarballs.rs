//! Results as one archive of files.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use bytes::Bytes;
use cache::ImmutableRef;
use exporter::ExportResult;
use session::testing::FakeClient;

use crate::workbench::{FILE_TIME, Workbench, by_platform, single, with_statement};

async fn archive(bench: &Workbench, attributes: &[(&str, &str)], result: &ExportResult) -> Bytes {
    let client = FakeClient::new().with_output_file(0);
    let client = client.connect(&bench.sessions, "s").await.unwrap();
    assert!(bench.export("tar", attributes, result).await.unwrap().is_empty());
    client.record().files[&0].clone()
}

/// Returns the entries of an archive as `path type target-or-content`.
fn shown(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if let Some(target) = entry.link_name().unwrap() {
            content = target.to_string_lossy().into_owned();
        }
        let kind = char::from(entry.header().entry_type().as_byte());
        found.push(format!("{} {kind} {content}", entry.path().unwrap().display()));
    }
    found
}

#[tokio::test]
async fn an_archive_has_all_kinds_of_files() {
    let bench = Workbench::new().await;
    let long = "d/".repeat(60) + &"x".repeat(120);
    let tree = bench.first_layer("COPY", |root| {
        fs::create_dir_all(root.join(&long).parent().unwrap()).unwrap();
        fs::write(root.join(&long), "long").unwrap();
        fs::write(root.join("a"), "a").unwrap();
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(root.join("a"), root.join("b")).unwrap();
        symlink(&long, root.join("link")).unwrap();
        fs::write(root.join("ü"), vec![b'z'; 1000]).unwrap();
        let value = b"v".as_slice();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("a"), "user.key", value, flags).unwrap();
    });
    let sent = archive(&bench, &[], &single(tree.await)).await;
    let mut entries = shown(&sent);
    entries.retain(|entry| !entry.starts_with("d/") || entry.contains('x'));
    let z = "z".repeat(1000);
    assert_eq!(
        entries,
        [
            "a 0 a".to_owned(),
            "b 1 a".to_owned(),
            format!("{long} 0 long"),
            format!("link 2 {long}"),
            format!("ü 0 {z}")
        ]
    );
    let mut parsed = tar::Archive::new(&sent[..]);
    let mut first = parsed.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(first.header().mode().unwrap(), 0o4755);
    assert_eq!(first.header().mtime().unwrap(), FILE_TIME);
    let extensions = first.pax_extensions().unwrap().unwrap();
    let extensions: Vec<_> = extensions
        .map(|one| one.unwrap())
        .map(|one| (one.key().unwrap().to_owned(), one.value_bytes().to_vec()))
        .collect();
    assert_eq!(extensions, [("SCHILY.xattr.user.key".to_owned(), b"v".to_vec())]);
    assert_eq!(bench.counters(), ["sending tarball"]);
}

#[tokio::test]
async fn the_same_files_make_the_same_archive() {
    let mut archives = Vec::new();
    for _ in 0..2 {
        let bench = Workbench::new().await;
        let result = single(bench.two_layers().await);
        archives.push(archive(&bench, &[("source-date-epoch", "3")], &result).await);
    }
    assert_eq!(archives[0], archives[1]);
    let mut first = tar::Archive::new(&archives[0][..]);
    let mut entries = first.entries().unwrap();
    assert!(entries.all(|entry| entry.unwrap().header().mtime().unwrap() == 3));
}

#[tokio::test]
async fn platforms_and_statements_have_their_places() {
    let bench = Workbench::new().await;
    let tree = bench.first_layer("COPY", |root| {
        fs::write(root.join("a"), "a").unwrap();
        fs::hard_link(root.join("a"), root.join("b")).unwrap();
        // What is in the way of a statement is left out.
        fs::create_dir(root.join("provenance.json")).unwrap();
        fs::write(root.join("provenance.json/x"), "x").unwrap();
    });
    let tree = tree.await;
    let result = by_platform(&[("linux/amd64", tree), ("linux/arm64", ImmutableRef::default())]);
    let result = with_statement(result, "linux/amd64", false);
    let mut entries = shown(&archive(&bench, &[], &result).await);
    let statement = entries.iter_mut().find(|entry| entry.contains("provenance")).unwrap();
    assert!(statement.contains("https://in-toto.io/Statement/v1"), "{statement}");
    statement.truncate("linux_amd64/provenance.json 0".len());
    assert_eq!(
        entries,
        [
            "linux_amd64/ 5 ",
            "linux_amd64/a 0 a",
            "linux_amd64/b 1 linux_amd64/a",
            "linux_amd64/provenance.json 0",
            "linux_arm64/ 5 ",
        ]
    );
}

#[tokio::test]
async fn nothing_is_an_archive_too() {
    let bench = Workbench::new().await;
    let sent = archive(&bench, &[], &single(ImmutableRef::default())).await;
    assert_eq!(sent, vec![0; 1024]);
}
