//! What is made where something is, or was, in the layers below (protocol page `llb.md` §6).

use llb::{FileActions, MakeDir, MakeFile, OpOptions, Owner, Remove, State, Symlink};

use crate::world::World;

fn file(path: &str) -> MakeFile {
    let (path, data) = (path.to_owned(), b"new".to_vec().into());
    MakeFile { path, data, mode: 0o600, ..MakeFile::default() }
}

fn directory(path: &str) -> MakeDir {
    MakeDir { path: path.to_owned(), mode: 0o700, ..MakeDir::default() }
}

fn link(path: &str) -> Symlink {
    Symlink { path: path.to_owned(), target: "f".to_owned(), ..Symlink::default() }
}

/// Returns three layers: with `/f`, `/d/x`, `/l -> d`, `/m -> f`, and neither `/gone` nor `/left` any more.
fn below() -> State {
    let first = FileActions::new()
        .make_file(MakeFile { mode: 0o644, data: b"old".to_vec().into(), ..file("/f") })
        .make_dir(MakeDir { mode: 0o755, ..directory("/d") })
        .make_file(file("/d/x"))
        .symlink(Symlink { target: "d".to_owned(), ..link("/l") })
        .symlink(link("/m"))
        .make_file(file("/gone"))
        .make_dir(directory("/left"))
        .make_file(file("/left/y"));
    let removed = |path: &str| Remove { path: path.to_owned(), ..Remove::default() };
    let second = FileActions::new().remove(removed("/gone")).remove(removed("/left"));
    let third = FileActions::new().make_file(file("/last"));
    let options = OpOptions::default;
    State::scratch().file(first, options()).file(second, options()).file(third, options())
}

fn over(actions: FileActions) -> State {
    below().file(actions, OpOptions::default())
}

#[tokio::test]
async fn what_is_new_is_made_and_what_is_there_is_kept() {
    let world = World::new().await;
    let all = ["/d/", "/d/x", "/f", "/l -> d", "/last", "/m -> f"];
    let make = FileActions::new;
    let cases = [
        (make().make_file(file("/new")), Some("/new")),
        (make().make_file(file("/gone")), Some("/gone")),
        (make().make_file(file("/left")), Some("/left")),
        (make().make_file(file("/f")), None),
        (make().make_file(file("/m")), None),
        (make().make_dir(directory("/new")), Some("/new/")),
        (make().make_dir(directory("/left")), Some("/left/")),
        (make().make_dir(directory("/d")), None),
        (make().make_dir(directory("/l")), None),
        (make().symlink(link("/new")), Some("/new -> f")),
        (make().symlink(link("/gone")), Some("/gone -> f")),
    ];
    for (actions, made) in cases {
        let built = world.build(&over(actions.clone())).await.unwrap();
        let mut expected: Vec<&str> = all.iter().copied().chain(made).collect();
        expected.sort_unstable();
        assert_eq!(world.list(&built.tree).await, expected, "{actions:?}");
    }
    let written = world.build(&over(make().make_file(file("/m")))).await.unwrap();
    assert_eq!(world.read(&written.tree, "/f").await, "new");
    assert_eq!(world.stat(&written.tree, "/f").await.st_mode & 0o777, 0o600);
    let kept = world.build(&over(make().make_dir(directory("/d")))).await.unwrap();
    assert_eq!(world.stat(&kept.tree, "/d").await.st_mode & 0o777, 0o755);
}

#[tokio::test]
async fn what_is_in_the_way_is_told() {
    let world = World::new().await;
    let make = FileActions::new;
    let cases = [
        (make().make_file(file("/d")), "open /d"),
        (make().make_file(file("/l")), "open /l"),
        (make().make_dir(directory("/f")), "mkdir /f"),
        (make().symlink(link("/f")), "symlink /f"),
        (make().symlink(link("/l")), "symlink /l"),
    ];
    for (actions, expected) in cases {
        let text = world.failure(&over(actions)).await;
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test]
async fn owners_by_name_are_those_of_the_tree_that_changes() {
    let world = World::new().await;
    let users = MakeFile { data: b"app:x:7:8::/:\n".to_vec().into(), ..file("/etc/passwd") };
    let base = FileActions::new().make_dir(directory("/etc")).make_file(users);
    let base = State::scratch().file(base, OpOptions::default());
    let app = MakeFile { owner: Some(Owner::parse("app")), ..file("/new") };
    let state = base.file(FileActions::new().make_file(app), OpOptions::default());
    let built = world.build(&state).await.unwrap();
    assert_eq!(world.stat(&built.tree, "/new").await.st_uid, 7);
}
