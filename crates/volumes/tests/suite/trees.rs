//! What becomes of the files themselves: merged, settled, forked, whatever kind they are.
#![allow(unreachable_pub, reason = "a test binary has no outside")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use volumes::{Merge, Outcome, PolicyPatch, Sharing, VolumeSettings};

use crate::world::{World, key, label, mounted, name, view};

/// A tree in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(u64),
    Directory(BTreeMap<String, Node>),
}

/// A change that a step makes.
#[derive(Debug, Clone)]
pub enum Change {
    Write(Vec<String>),
    Remove(Vec<String>),
    MakeDirectory(Vec<String>),
    Rename(Vec<String>, Vec<String>),
}

fn any_path() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[abc]", 1..4)
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any_path().prop_map(Change::Write),
        3 => any_path().prop_map(Change::Remove),
        1 => any_path().prop_map(Change::MakeDirectory),
        2 => (any_path(), any_path()).prop_map(|(from, to)| Change::Rename(from, to)),
    ]
}

/// Makes a change in a real tree as a tool would: what is in the way is removed first. Contents are
/// numbers that are never used twice.
fn make(change: &Change, root: &Path, number: &mut u64) {
    let path = |parts: &[String]| parts.iter().fold(root.to_owned(), |path, part| path.join(part));
    let clear = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    };
    let parents = |parts: &[String]| {
        for length in 1..parts.len() {
            let parent = path(&parts[..length]);
            if !parent.is_dir() {
                clear(&parent);
                fs::create_dir(&parent).unwrap();
            }
        }
    };
    match change {
        Change::Write(parts) => {
            parents(parts);
            if path(parts).is_dir() {
                clear(&path(parts));
            }
            *number += 1;
            fs::write(path(parts), number.to_string()).unwrap();
        }
        Change::Remove(parts) => clear(&path(parts)),
        Change::MakeDirectory(parts) => {
            parents(parts);
            clear(&path(parts));
            fs::create_dir(path(parts)).unwrap();
        }
        Change::Rename(from, to) => {
            if !to.starts_with(from) && !from.starts_with(to) && path(from).exists() {
                parents(to);
                clear(&path(to));
                // Between layers a directory cannot be renamed, and tools copy it then.
                if path(from).exists() && fs::rename(path(from), path(to)).is_err() {
                    copy(&path(from), &path(to));
                    clear(&path(from));
                }
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

fn read(path: &Path) -> Node {
    if !path.is_dir() {
        return Node::File(fs::read_to_string(path).unwrap().parse().unwrap());
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), read(&entry.path()))
    });
    Node::Directory(entries.collect())
}

/// The documented union: what the head has not changed is ours, else the head's.
fn union(base: Option<&Node>, ours: Option<&Node>, head: Option<&Node>) -> Option<Node> {
    if base == head {
        return ours.cloned();
    }
    let nothing = BTreeMap::new();
    let inside = |node: Option<&Node>| match node {
        Some(Node::Directory(entries)) => entries.clone(),
        Some(Node::File(_)) | None => nothing.clone(),
    };
    let was_directory = matches!(base, Some(Node::Directory(_)));
    let together = match (ours, head) {
        (Some(Node::Directory(_)), Some(Node::Directory(_))) => true,
        (None, Some(Node::Directory(_))) | (Some(Node::Directory(_)), None) => was_directory,
        _ => false,
    };
    if !together {
        return head.cloned();
    }
    let (base, ours, theirs) = (inside(base), inside(ours), inside(head));
    let mut merged = BTreeMap::new();
    for name in base.keys().chain(ours.keys()).chain(theirs.keys()) {
        if let Some(node) = union(base.get(name), ours.get(name), theirs.get(name)) {
            merged.insert(name.clone(), node);
        }
    }
    let stays = head.is_some() || !merged.is_empty();
    stays.then_some(Node::Directory(merged))
}

/// Changes for a tree, and for two forks of it.
pub fn any_timeline() -> impl Strategy<Value = [Vec<Change>; 3]> {
    let changes = |most| prop::collection::vec(any_change(), 0..most);
    (changes(12), changes(8), changes(8)).prop_map(|(before, ours, theirs)| [before, ours, theirs])
}

/// Makes two forks of a tree, and checks what comes of them: the volume's policy is `union`.
pub async fn is_united_as_documented(
    world: &World,
    id: &str,
    before: &[Change],
    ours: &[Change],
    theirs: &[Change],
) {
    let mut number = 0;
    let mut step = async |changes: &[Change], lease: &volumes::Leases| {
        let tree = mounted(&lease.mount(0).unwrap());
        changes.iter().for_each(|change| make(change, &tree.path, &mut number));
        read(&tree.path)
    };
    let lease = world.take(id, Sharing::Locked).await;
    let base = step(before, &lease).await;
    lease.finish(Outcome::Succeeded).await.unwrap();
    let fork = world.take(id, Sharing::Private).await;
    let other = world.take(id, Sharing::Private).await;
    let head = step(theirs, &other).await;
    other.finish(Outcome::Succeeded).await.unwrap();
    let mine = step(ours, &fork).await;
    fork.finish(Outcome::Succeeded).await.unwrap();
    let found = mounted(&view(world.manager.path(key(id)).await.unwrap().head));
    let expected = union(Some(&base), Some(&mine), Some(&head)).unwrap();
    assert_eq!(read(&found.path), expected, "{base:?} {mine:?} {head:?}");
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_union_takes_each_file_from_the_side_that_changed_it(
        before in prop::collection::vec(any_change(), 0..12),
        ours in prop::collection::vec(any_change(), 0..8),
        theirs in prop::collection::vec(any_change(), 0..8),
    ) {
        run(async {
            let defaults = PolicyPatch { merge: Some(Merge::Union), ..Default::default() };
            let world = World::with(VolumeSettings { defaults, ..Default::default() }).await;
            is_united_as_documented(&world, "v", &before, &ours, &theirs).await;
        });
    }

    #[test]
    fn settling_changes_nothing_that_can_be_seen(
        steps in prop::collection::vec(prop::collection::vec(any_change(), 1..6), 2..7),
    ) {
        run(async {
            let defaults = PolicyPatch { versions: Some(1), ..Default::default() };
            let world = World::with(VolumeSettings { defaults, depth: 1, ..Default::default() }).await;
            world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
            let mut number = 0;
            // A reader of the first version keeps all layers apart until it goes.
            let reader = world.take("v", Sharing::ReadOnly).await;
            let mut last = Node::Directory(BTreeMap::new());
            for changes in &steps {
                let lease = world.take("v", Sharing::Locked).await;
                let tree = mounted(&lease.mount(0).unwrap());
                assert_eq!(read(&tree.path), last);
                changes.iter().for_each(|change| make(change, &tree.path, &mut number));
                last = read(&tree.path);
                drop(tree);
                lease.finish(Outcome::Succeeded).await.unwrap();
            }
            reader.finish(Outcome::Succeeded).await.unwrap();
            world.manager.sweep().await.unwrap();
            let head = world.manager.path(key("v")).await.unwrap().head;
            assert_eq!(head.len(), 1, "not settled");
            assert_eq!(read(mounted(&view(head)).path.as_path()), last);
        });
    }
}

/// Makes one of everything that a cache may hold.
fn menagerie(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("plain"), "plain").unwrap();
    fs::hard_link(at("plain"), at("linked")).unwrap();
    symlink("/nowhere/../plain", at("symlink")).unwrap();
    fs::write(at(&"n".repeat(255)), "long").unwrap();
    fs::write(at("attributes"), "x").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at("attributes"), "user.note", b"kept", flags).unwrap();
    // CAP_NET_BIND_SERVICE, permitted and effective (vfs capabilities, revision 2).
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(at("attributes"), "security.capability", &capability, flags).unwrap();
    fs::set_permissions(at("attributes"), fs::Permissions::from_mode(0o4751)).unwrap();
    rustix::fs::setxattr(at("attributes"), "security.capability", &capability, flags).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 32 << 20).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    for (name, kind) in
        [("socket", rustix::fs::FileType::Socket), ("fifo", rustix::fs::FileType::Fifo)]
    {
        rustix::fs::mknodat(rustix::fs::CWD, at(name), kind, mode, 0).unwrap();
    }
    fs::create_dir_all(at("mod/cache")).unwrap();
    fs::write(at("mod/cache/go.sum"), "h1:").unwrap();
    fs::set_permissions(at("mod/cache/go.sum"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(at("mod/cache"), fs::Permissions::from_mode(0o555)).unwrap();
    rustix::fs::setxattr(at("mod"), "user.note", b"directory", flags).unwrap();
}

fn check_menagerie(root: &Path, whole_links: bool) {
    let at = |name: &str| root.join(name);
    let stat = |name: &str| fs::symlink_metadata(at(name)).unwrap();
    assert_eq!(fs::read_to_string(at("linked")).unwrap(), "plain");
    if whole_links {
        assert_eq!(stat("plain").ino(), stat("linked").ino());
    }
    assert_eq!(fs::read_link(at("symlink")).unwrap(), Path::new("/nowhere/../plain"));
    assert_eq!(fs::read_to_string(at(&"n".repeat(255))).unwrap(), "long");
    let mut value = [0; 64];
    let size = rustix::fs::getxattr(at("attributes"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..size], b"kept");
    let size = rustix::fs::getxattr(at("attributes"), "security.capability", &mut value).unwrap();
    assert!(size >= 20 && value[5] == 4);
    assert_eq!(stat("attributes").mode() & 0o7777, 0o4751);
    assert_eq!(stat("sparse").len(), 64 << 20);
    assert!(stat("sparse").blocks() * 512 < 1 << 20, "a hole was filled");
    assert!(stat("socket").file_type().is_socket() && stat("fifo").file_type().is_fifo());
    assert_eq!(stat("fifo").mode() & 0o7777, 0o640);
    assert_eq!(stat("mod/cache").mode() & 0o7777, 0o555);
    assert_eq!(fs::read_to_string(at("mod/cache/go.sum")).unwrap(), "h1:");
    let size = rustix::fs::getxattr(at("mod"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..size], b"directory");
}

#[tokio::test]
async fn every_kind_of_file_survives_fork_publish_and_settling() {
    every_kind_of_file_survives(&World::with(shallow(PolicyPatch::default())).await).await;
}

/// Settings under which a head is one layer as soon as that can be.
pub fn shallow(defaults: PolicyPatch) -> VolumeSettings {
    let defaults = PolicyPatch { versions: Some(1), ..defaults };
    VolumeSettings { defaults, depth: 1, ..Default::default() }
}

/// Takes every kind of file through every way that trees go.
pub async fn every_kind_of_file_survives(world: &World) {
    for in_place in [true, false] {
        let id = format!("v-{in_place}");
        if !in_place {
            world.take(&id, Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
        }
        let lease = world.take(&id, Sharing::Locked).await;
        menagerie(&mounted(&lease.mount(0).unwrap()).path);
        lease.finish(Outcome::Succeeded).await.unwrap();
        let fork = world.take(&id, Sharing::Private).await;
        let tree = mounted(&fork.mount(0).unwrap());
        check_menagerie(&tree.path, true);
        fs::create_dir(tree.path.join("more")).unwrap();
        drop(tree);
        fork.finish(Outcome::Succeeded).await.unwrap();
        world.manager.sweep().await.unwrap();
        let head = world.manager.path(key(&id)).await.unwrap().head;
        assert_eq!(head.len(), 1, "settled");
        check_menagerie(head[0].as_path(), true);

        let copy =
            world.manager.fork(key(&id), name(&format!("{id}-copy")), label()).await.unwrap();
        let copied = world.manager.path(copy).await.unwrap().head;
        check_menagerie(copied[0].as_path(), true);
        world.manager.remove(key(&id)).await.unwrap();
        check_menagerie(copied[0].as_path(), true);
    }
}

#[tokio::test]
async fn a_seed_is_copied_with_every_kind_of_file() {
    let world = World::new().await;
    let seed = world.seed(&[]);
    menagerie(seed.seed.layers[0].as_path());
    let lease =
        world.take_with("v", Sharing::Locked, |mount| mount.variant = Some(seed.clone())).await;
    check_menagerie(&mounted(&lease.mount(0).unwrap()).path, true);
    let original = fs::metadata(seed.seed.layers[0].join("plain").as_path()).unwrap();
    let path = mounted(&lease.mount(0).unwrap()).path.join("plain");
    assert_ne!(fs::metadata(path).unwrap().ino(), original.ino(), "a copy, not a link");
}

#[tokio::test]
async fn sizes_are_what_du_says() {
    let world = World::new().await;
    let lease = world.take("v", Sharing::Shared).await;
    menagerie(&mounted(&lease.mount(0).unwrap()).path);
    let in_use = world.record("v").await.space;
    lease.finish(Outcome::Succeeded).await.unwrap();
    world.take("v", Sharing::ReadOnly).await.finish(Outcome::Succeeded).await.unwrap();
    let fork = world.take("v", Sharing::Private).await;
    mounted(&fork.mount(0).unwrap()).write("more", &"x".repeat(100_000));
    fork.finish(Outcome::Succeeded).await.unwrap();
    for _measured_then_remembered in 0..2 {
        let space = world.record("v").await.space;
        let layers = world.manager.path(key("v")).await.unwrap().layers;
        let du = |flags: &[&str]| -> u64 {
            #[expect(clippy::disallowed_methods, reason = "du is the judge")]
            let mut command = std::process::Command::new("du");
            let output = command.args(flags).arg(layers.as_path()).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().next().unwrap().parse().unwrap()
        };
        assert_eq!(space.bytes, du(&["-s", "--block-size=1"]));
        assert_eq!(space.inodes, du(&["-s", "--inodes"]));
        assert!(space.bytes >= in_use.bytes + 100_000);
    }
}
