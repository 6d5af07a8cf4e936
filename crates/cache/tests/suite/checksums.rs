//! Checksums against a recomputation, under random changes that are told by their real paths.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use cache::{Checksums, KnownFile};
use digests::FileContent;
use mount::{GuestPath, RootDir};
use proptest::prelude::*;

use crate::world::host;

const PATHS: [&str; 8] = ["/", "/d", "/d/e", "/d/e/f", "/d/g", "/link/e/f", "/link", "/up/d/g"];

#[derive(Debug, Clone)]
enum Change {
    Write(usize, u8),
    Remove(usize),
    Link(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..4_usize, any::<u8>()).prop_map(|(file, content)| Change::Write(file, content)),
        (0..4_usize).prop_map(Change::Remove),
        (0..3_u8).prop_map(Change::Link),
    ]
}

/// Makes a change and returns its real path.
fn perform(root: &Path, change: &Change) -> &'static str {
    let files = ["/d/e/f", "/d/g", "/d/e/h", "/z"];
    match change {
        Change::Write(file, content) => {
            fs::write(root.join(&files[*file][1..]), [*content]).unwrap();
            files[*file]
        }
        Change::Remove(file) => {
            // It may not be there.
            let _ = fs::remove_file(root.join(&files[*file][1..]));
            files[*file]
        }
        Change::Link(to) => {
            fs::remove_file(root.join("link")).unwrap();
            symlink(["d", "/d", "nowhere"][usize::from(*to)], root.join("link")).unwrap();
            "/link"
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn what_is_remembered_is_what_would_be_computed(changes in prop::collection::vec(change(), 1..12)) {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::write(at("d/e/f"), "one").unwrap();
        fs::write(at("d/g"), "two").unwrap();
        symlink("d", at("link")).unwrap();
        symlink("/link/..", at("up")).unwrap();
        let root = RootDir::open(&host(directory.path())).unwrap();
        let remembered = Checksums::default();
        for change in &changes {
            for path in PATHS {
                let path = GuestPath::new(path).unwrap();
                let known = remembered.digest(&root, &path).ok();
                prop_assert_eq!(known, Checksums::default().digest(&root, &path).ok(), "{}", path);
            }
            let path = GuestPath::new(perform(directory.path(), change)).unwrap();
            remembered.forget(&path);
            if let Change::Write(_, content) = change {
                let stat = fs::metadata(at(&path.as_path().to_str().unwrap()[1..])).unwrap();
                let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
                let content = FileContent::of([*content]);
                remembered.learn([(path, KnownFile { content, mode, uid, gid })]);
            }
        }
    }
}

#[test]
fn a_tree_made_to_do_harm_is_an_error_or_a_digest() {
    let directory = tempfile::tempdir().unwrap();
    let deep = vec!["d"; 1000].join("/");
    fs::create_dir_all(directory.path().join(&deep)).unwrap();
    symlink("b", directory.path().join("a")).unwrap();
    symlink("a", directory.path().join("b")).unwrap();
    let root = RootDir::open(&host(directory.path())).unwrap();
    // On a thread as small as those that this runs on.
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let path = |text: &str| GuestPath::new(text).unwrap();
        assert!(Checksums::default().digest(&root, &path("/a/x")).is_err());
        Checksums::default().digest(&root, &path("/a")).unwrap();
        // Too many files may be open at once; that is an error as any other.
        let _ = Checksums::default().digest(&root, &path("/d"));
    });
    thread.unwrap().join().unwrap();
}
