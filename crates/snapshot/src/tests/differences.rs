//! The comparison of trees.

use mount::RootDir;

use super::*;
use crate::diff_trees;
use crate::flatten::put_layer;

fn difference(lower: &HostPath, upper: &HostPath, layer: &HostPath) {
    let open = |path: &HostPath| RootDir::open(path).unwrap();
    diff_trees(&open(lower), &open(upper), layer).unwrap();
}

#[test]
fn equal_trees_make_an_empty_layer() {
    let place = Place::new();
    let (lower, upper, layer) =
        (place.directory("lower"), place.directory("upper"), place.directory("layer"));
    write_zoo(lower.as_path());
    put_layer(&lower, &upper).unwrap();
    difference(&lower, &upper, &layer);
    assert_eq!(picture_of(&layer, Times::None), Picture::new());
}

#[test]
fn only_what_changed_and_its_directories_are_in_the_layer() {
    let place = Place::new();
    let (lower, upper, layer) =
        (place.directory("lower"), place.directory("upper"), place.directory("layer"));
    for path in ["a/b/same", "a/b/changed", "a/gone/x", "other/same", "a/type"] {
        write(lower.as_path(), path, "1");
    }
    put_layer(&lower, &upper).unwrap();
    write(upper.as_path(), "a/b/changed", "2");
    fs::remove_dir_all(upper.join("a/gone")).unwrap();
    fs::remove_file(upper.join("a/type")).unwrap();
    write(upper.as_path(), "a/type/now-a-directory", "");
    set_xattr(&upper.as_path().join("a/b"), "user.new", b"1");
    difference(&lower, &upper, &layer);
    let found = picture_of(&layer, Times::None);
    let found: Vec<_> =
        found.iter().map(|(path, text)| (path.to_str().unwrap(), text == "whiteout")).collect();
    assert_eq!(
        found,
        [
            ("a", false),
            ("a/b", false),
            ("a/b/changed", false),
            ("a/gone", true),
            ("a/type", false),
            ("a/type/now-a-directory", false),
        ]
    );
}

#[test]
fn content_is_compared_where_times_are_rounded() {
    let place = Place::new();
    let (lower, upper, layer) =
        (place.directory("lower"), place.directory("upper"), place.directory("layer"));
    for (root, content) in [(&lower, "1"), (&upper, "2")] {
        write(root.as_path(), "file", content);
        write(root.as_path(), "same", "=");
        for name in ["file", "same"] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(7);
            fs::File::open(root.join(name)).unwrap().set_modified(time).unwrap();
        }
    }
    difference(&lower, &upper, &layer);
    assert_eq!(
        picture_of(&layer, Times::None).into_keys().collect::<Vec<_>>(),
        [Path::new("file")]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_difference_turns_one_tree_into_the_other(before in changes(20), after in changes(20)) {
        let place = Place::new();
        let (lower, upper, layer) =
            (place.directory("lower"), place.directory("upper"), place.directory("layer"));
        before.iter().for_each(|change| change.make(lower.as_path()));
        after.iter().for_each(|change| change.make(upper.as_path()));
        difference(&lower, &upper, &layer);
        put_layer(&layer, &lower).unwrap();
        let (found, given) = (picture_of(&lower, Times::None), picture_of(&upper, Times::None));
        // Two names of one file are two files if only one of them changed.
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), given.keys().collect::<Vec<_>>());
        for (path, text) in &given {
            if !text.starts_with("link to") && !found[path].starts_with("link to") {
                prop_assert_eq!(&found[path], text);
            }
        }
    }
}
