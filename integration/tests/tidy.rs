//! The rules of the code map, held by a program: who may depend on whom, where things have their home,
//! and what every file has.
//!
//! Each test is one rule. A failure names every file that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

/// What the top level holds; the last four when they hold something.
const TOP_LEVEL: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "Dockerfile.test",
    "README.md",
    "crates",
    "daemon",
    "frontend",
    "integration",
    "proto",
    "LICENSE",
    "CHANGELOG.md",
    "examples",
];
const MECHANISMS: [&str; 6] = ["content", "snapshot", "volumes", "executor", "registry", "session"];
const MEANINGLESS: [&str; 6] = ["utils", "util", "common", "helpers", "misc", "base"];
/// What git and cargo keep.
const SKIPPED: [&str; 3] = [".git", "target", "frontend/dockerfile/fuzz/target"];
/// The one file for system calls that no library makes safe.
const UNSAFE_HOME: &str = "crates/executor/src/linux/sys.rs";

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the harness is a folder of the workspace").to_owned()
}

/// One package of the workspace.
struct Package {
    name: String,
    /// Its folder, relative to the workspace.
    folder: PathBuf,
    layer: Option<i64>,
    /// What it is built with, also for single targets.
    dependencies: BTreeSet<String>,
    /// What its tests are built with in addition.
    test_dependencies: BTreeSet<String>,
}

fn names(table: &Table, key: &str) -> BTreeSet<String> {
    let listed = table.get(key).and_then(toml::Value::as_table);
    listed.map(|listed| listed.keys().cloned().collect()).unwrap_or_default()
}

fn package(folder: &Path) -> Package {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let manifest: Table = text.parse().unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let about = manifest["package"].as_table().expect("a package has a table");
    let metadata = about.get("metadata").and_then(toml::Value::as_table);
    let mut dependencies = names(&manifest, "dependencies");
    dependencies.append(&mut names(&manifest, "build-dependencies"));
    for target in manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten() {
        dependencies.extend(target.1.as_table().into_iter().flat_map(|t| names(t, "dependencies")));
    }
    Package {
        name: about["name"].as_str().expect("a name is a text").to_owned(),
        folder: folder.strip_prefix(root()).expect("below the workspace").to_owned(),
        layer: metadata.and_then(|metadata| metadata.get("layer")?.as_integer()),
        dependencies,
        test_dependencies: names(&manifest, "dev-dependencies"),
    }
}

fn packages() -> BTreeMap<String, Package> {
    let mut folders = vec![root().join("proto"), root().join("daemon"), root().join("integration")];
    for several in ["crates", "frontend"] {
        folders.extend(entries(&root().join(several)));
    }
    let packages = folders.iter().filter(|folder| folder.join("Cargo.toml").is_file());
    packages.map(|folder| package(folder)).map(|package| (package.name.clone(), package)).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut entries: Vec<_> = listed.map(|entry| entry.expect("a readable entry").path()).collect();
    entries.sort();
    entries
}

/// A text file of the workspace, by its path from the top.
struct File {
    path: String,
    text: String,
}

/// Returns the files with one of `extensions`, without what git or cargo keep.
fn files(extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let relative = path.strip_prefix(root()).expect("below the workspace");
            let skipped = SKIPPED.iter().any(|skipped| relative == Path::new(skipped));
            if path.is_symlink() || skipped {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if extensions
                .iter()
                .any(|extension| path.extension() == Some(extension.as_ref()))
            {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
                found.push(File { path: relative.display().to_string(), text });
            }
        }
    }
    found
}

/// Returns the Rust that people write.
fn sources() -> Vec<File> {
    let generated = |file: &File| file.path.starts_with("proto/src/generated/");
    let mut sources = files(&["rs"]);
    sources.retain(|file| !generated(file));
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

/// Returns Rust without comments and without the insides of strings.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if letter == '"' {
            string_length(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            match rest[1 + hashes..].strip_prefix('"').and_then(|inside| inside.find(&end)) {
                Some(inside) => 1 + hashes + 1 + inside + end.len(),
                None => 1,
            }
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            code.push(letter);
            letter.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns whether `word` is in `code` by itself, not as a part of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

/// Returns code without its tests, which stand last.
fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]").map_or(code, |at| &code[..at])
}

#[track_caller]
fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Asserts that nobody but `allowed` depends on `package`, in tests or otherwise.
#[track_caller]
fn assert_seen_only_by(package: &str, allowed: &[&str]) {
    let strangers = packages().into_values().filter(|user| {
        let uses = user.dependencies.contains(package) || user.test_dependencies.contains(package);
        uses && !allowed.contains(&user.name.as_str())
    });
    let strangers: Vec<String> = strangers.map(|user| user.name).collect();
    assert_none(&strangers, &format!("`{package}` is seen by {} only", allowed.join(", ")));
}

/// Asserts that `package` sees of ours nothing but `allowed`.
#[track_caller]
fn assert_sees_only(package: &str, allowed: &[&str]) {
    let packages = packages();
    let seen = packages[package].dependencies.iter().filter(|name| packages.contains_key(*name));
    let strangers: Vec<String> =
        seen.filter(|name| !allowed.contains(&name.as_str())).cloned().collect();
    assert_none(
        &strangers,
        &format!("`{package}` sees {} and nothing else of ours", allowed.join(", ")),
    );
}

#[test]
fn edges_stay_on_their_rank_or_go_down() {
    let packages = packages();
    let mut broken = Vec::new();
    for package in packages.values() {
        let Some(layer) = package.layer else {
            broken.push(format!("{}: no `package.metadata.layer`", package.name));
            continue;
        };
        for name in package.dependencies.union(&package.test_dependencies) {
            let above = packages.get(name).and_then(|seen| seen.layer).filter(|seen| *seen > layer);
            broken.extend(above.map(|above| {
                format!("{} (rank {layer}) depends on {name} (rank {above})", package.name)
            }));
        }
    }
    assert_none(&broken, "a package depends on its own rank or a lower one");
}

#[test]
fn a_folder_has_the_name_of_its_package() {
    let other = |package: &Package| !package.folder.ends_with(&package.name);
    let broken: Vec<String> =
        packages().into_values().filter(other).map(|package| package.name).collect();
    assert_none(&broken, "folder name and package name are the same word");
}

#[test]
fn the_engine_knows_values_and_tasks() {
    assert_sees_only("solver", &["digests", "progress", "tasks"]);
}

#[test]
fn mechanisms_know_neither_graph_nor_cache() {
    let packages = packages();
    let mut broken = Vec::new();
    for mechanism in MECHANISMS {
        let package = &packages[mechanism];
        for seen in package.dependencies.union(&package.test_dependencies) {
            let forbidden = ["solver", "cache", "llb"].contains(&seen.as_str());
            if forbidden || (seen == "proto" && mechanism != "session") {
                broken.push(format!("{mechanism} depends on {seen}"));
            }
        }
    }
    assert_none(
        &broken,
        "a mechanism never sees `solver`, `cache` or `llb`; only `session` sees `proto`",
    );
}

#[test]
fn the_dockerfile_is_lowered_by_a_pure_function() {
    assert_sees_only("dockerfile", &["bridge", "llb", "oci", "digests", "patterns", "sbom"]);
    assert!(
        !packages()["dockerfile"].dependencies.contains("tokio"),
        "`tokio` is for its tests only"
    );
    // Addresses of `std::net` are values; its sockets are not.
    let effects =
        ["std::fs", "std::process", "std::env", "tokio", "TcpStream", "UdpSocket", "UnixStream"];
    let mut broken = Vec::new();
    for file in sources() {
        if file.path.starts_with("frontend/dockerfile/src/") && !file.path.ends_with("tests.rs") {
            // `std::env::consts` says what we were compiled for: a constant, not the environment.
            let code = code(&file.text).replace("std::env::consts", "");
            let effects = effects.iter().filter(|effect| has_word(without_tests(&code), effect));
            broken.extend(effects.map(|effect| format!("{}: {effect}", file.path)));
        }
    }
    assert_none(&broken, "`dockerfile` does no I/O");
}

#[test]
fn the_builder_is_handed_its_operations() {
    let packages = packages();
    let builder = &packages["builder"];
    let seen = builder.dependencies.union(&builder.test_dependencies).any(|name| name == "ops");
    assert!(!seen, "`builder` never sees `ops`; it is handed an `OpResolver`");
}

#[test]
fn wire_types_stop_at_the_wire() {
    let wire = ["llb", "session", "gateway", "daemon", "cli", "image", "integration"];
    assert_seen_only_by("proto", &wire);
}

#[test]
fn dependencies_have_a_home() {
    assert_seen_only_by("hyper", &["registry", "session", "daemon"]);
    assert_seen_only_by("fs2", &["filelock"]);
    assert_seen_only_by("dashmap", &["tasks", "session", "solver"]);
}

#[test]
fn errors_of_libraries_have_types() {
    let anyhow = |package: &Package| package.dependencies.contains("anyhow");
    let library = |package: &Package| package.layer < Some(4);
    let packages = packages().into_values();
    let broken: Vec<String> =
        packages.filter(|p| library(p) && anyhow(p)).map(|package| package.name).collect();
    assert_none(&broken, "libraries never use `anyhow`");
}

#[test]
fn unsafe_lives_in_one_file() {
    let outside = |file: &File| file.path != UNSAFE_HOME && has_word(&code(&file.text), "unsafe");
    let broken: Vec<String> = sources().into_iter().filter(outside).map(|file| file.path).collect();
    assert_none(&broken, &format!("`unsafe` is in {UNSAFE_HOME} only"));
}

#[test]
fn work_processes_and_configuration_have_one_door_each() {
    let named = [".clippy.toml", "clippy.toml"].map(|name| root().join(name));
    let bans = named.iter().find_map(|path| fs::read_to_string(path).ok()).expect("the bans");
    let clippy: Table = bans.parse().expect("the bans are a table");
    let banned: Vec<&str> = clippy["disallowed-methods"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|ban| ban.get("reason").is_some())
        .filter_map(|ban| ban.get("path")?.as_str())
        .collect();
    let doors = [
        "tokio::spawn",
        "tokio::task::spawn_blocking",
        "std::env::var",
        "std::process::Command::new",
    ];
    let missing: Vec<String> =
        doors.iter().filter(|door| !banned.contains(door)).map(|door| (*door).to_owned()).collect();
    assert_none(&missing, "each door has a ban that names it, with a reason");

    let homes = [
        "crates/tasks/",
        "crates/executor/",
        "crates/cli/",
        "daemon/",
        "frontend/image/",
        "integration/",
    ];
    let mut broken = Vec::new();
    for file in sources() {
        let code = code(&file.text);
        let lifted =
            code.contains("clippy::disallowed_methods") && file.path != "integration/tests/tidy.rs";
        // A crate's own tests may start the programs that they need.
        let is_test = file.path.contains("/tests/");
        if lifted && !is_test && !homes.iter().any(|home| file.path.starts_with(home)) {
            broken.push(format!("{}: lifts a ban that is not its own", file.path));
        }
        if lifted && code.contains("allow(clippy::disallowed_methods") {
            broken.push(format!(
                "{}: says `allow` where `expect` would tell when it is needless",
                file.path
            ));
        }
    }
    assert_none(&broken, "only the doors lift the bans");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |file: &File| !file.text.starts_with("//!");
    let broken: Vec<String> = sources().into_iter().filter(silent).map(|file| file.path).collect();
    assert_none(&broken, "every file opens with `//!`");
}

#[test]
fn names_carry_meaning() {
    let mut broken = Vec::new();
    for file in sources() {
        let parts = Path::new(&file.path).with_extension("");
        let named = parts.iter().any(|part| MEANINGLESS.iter().any(|name| part == *name));
        let code = code(&file.text);
        let inside = MEANINGLESS.iter().any(|name| has_word(&code, &format!("mod {name}")));
        if named || inside {
            broken.push(file.path);
        }
    }
    let meaningless = |name: &String| MEANINGLESS.contains(&name.as_str());
    broken.extend(packages().into_keys().filter(meaningless));
    assert_none(&broken, "no module or package is called utils, common, helpers, misc or base");
}

#[test]
fn the_top_level_is_fixed() {
    let ignored = |name: &str| name.starts_with('.') || ["target", "docs"].contains(&name);
    let names = entries(&root()).into_iter().filter_map(|path| Some(path.file_name()?.to_owned()));
    let broken: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !ignored(name) && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    assert_none(&broken, "the top level holds what the code map says, and dot-files");
}

#[test]
fn sources_name_no_machine() {
    let here = root().display().to_string();
    // A checkout near the top of a file system has a name that is a word as well.
    let mut machine = vec!["/Users/".to_owned(), "C:\\Users".to_owned()];
    machine.extend((root().components().count() > 2).then_some(here));
    let mut broken = Vec::new();
    for file in files(&["rs", "toml", "proto", "md", "sh", "yml", "yaml"]) {
        let named = machine.iter().filter(|path| file.text.contains(path.as_str()));
        if file.path != "integration/tests/tidy.rs" {
            broken.extend(named.map(|path| format!("{}: {path}", file.path)));
        }
    }
    assert_none(&broken, "no source has a path of a machine in it");
}

#[test]
fn the_reader_of_code_sees_code_only() {
    let text = "a // unsafe\n\"un\\\"safe\" r#\"unsafe\"# /* unsafe */ '\"' b_unsafe";
    let code = code(text);
    assert!(!has_word(&code, "unsafe"), "{code}");
    assert!(has_word(&code, "a") && has_word(&code, "b_unsafe"), "{code}");
}
