//! The walk over a tree.

use super::*;

fn events(root: &HostPath, skip: &str) -> Vec<String> {
    let mut events = Vec::new();
    let mut walk = Walk::new(fs::File::open(root).unwrap()).unwrap();
    loop {
        let skipped = match walk.next().unwrap() {
            None => return events,
            Some(Event::Enter(entry)) => {
                events.push(format!("+{}", entry.path().display()));
                entry.name() == skip
            }
            Some(Event::Leave(entry)) => {
                events.push(format!("-{}", entry.path().display()));
                false
            }
        };
        if skipped {
            walk.skip();
        }
    }
}

#[test]
fn entries_come_in_order_and_directories_twice() {
    let place = Place::new();
    let root = place.directory("tree");
    for path in ["b/z", "a.b", "a/c/d", "skipped/x"] {
        write(root.as_path(), path, "");
    }
    symlink("a", root.join("link")).unwrap();
    assert_eq!(
        events(&root, "skipped"),
        ["+a", "+a/c", "+a/c/d", "-a/c", "-a", "+a.b", "+b", "+b/z", "-b", "+link", "+skipped"]
    );
    assert!(events(&place.directory("empty"), "").is_empty());
}

#[test]
fn a_tree_deeper_than_the_descriptors_is_walked_and_removed() {
    let place = Place::new();
    let root = place.directory("tree");
    let mut directory = fs::File::open(&root).unwrap();
    for level in 0..3000 {
        rustix::fs::mkdirat(&directory, "level", Mode::RWXU).unwrap();
        if level % 1000 == 0 {
            rustix::fs::mkdirat(&directory, "last", Mode::RWXU).unwrap();
        }
        directory =
            crate::node::open_directory(directory.as_fd(), "level".as_ref()).unwrap().into();
    }
    let found = events(&root, "");
    assert_eq!(found.len(), 2 * 3003);
    assert_eq!(found.last().unwrap(), "-level");
    crate::removal::remove_tree(&root).unwrap();
    assert!(!root.as_path().exists());
}

#[test]
fn errors_name_the_file() {
    let error = Walk::new(fs::File::open("/dev/null").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "list directory `.`");
    assert!(std::error::Error::source(&error).is_some());
}
