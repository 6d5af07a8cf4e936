//! The generated code that is checked in is what the `.proto` files say.

mod generator;

use std::collections::BTreeMap;
use std::path::Path;

fn files(directory: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn generated_code_matches_the_proto_files() {
    let fresh = tempfile::tempdir().unwrap();
    generator::generate(fresh.path()).unwrap();
    let fresh = files(fresh.path());
    let checked_in = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated"));

    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    let remedy = "run `cargo run -p proto --example regenerate` and commit `proto/src/generated`";
    assert_eq!(names(&checked_in), names(&fresh), "the set of generated files differs: {remedy}");
    for (name, text) in &fresh {
        assert!(&checked_in[name] == text, "`{name}` is not what the .proto files say: {remedy}");
    }
}
