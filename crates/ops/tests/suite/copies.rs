//! What a copy makes of what is there (protocol page `llb.md` §6, rows "copy").

use llb::{CopyFiles, CopyMode, FileActions, MakeDir, MakeFile, OpOptions, Owner, State, Symlink};

use crate::world::World;

/// Returns a tree: `/` at the end makes a directory, ` -> ` a link.
fn tree(entries: &[&str]) -> State {
    let mut actions = FileActions::new();
    for entry in entries {
        actions = if let Some((path, target)) = entry.split_once(" -> ") {
            let (path, target) = (path.to_owned(), target.to_owned());
            actions.symlink(Symlink { path, target, timestamp: Some(0), ..Symlink::default() })
        } else if let Some(path) = entry.strip_suffix('/') {
            let path = path.to_owned();
            actions.make_dir(MakeDir {
                path,
                mode: 0o755,
                timestamp: Some(0),
                ..MakeDir::default()
            })
        } else {
            let (path, data) = ((*entry).to_owned(), entry.as_bytes().to_vec().into());
            let mode = 0o644;
            let file = MakeFile { path, data, mode, timestamp: Some(0), ..MakeFile::default() };
            actions.make_file(file)
        };
    }
    State::scratch().file(actions, OpOptions::default())
}

fn source() -> State {
    tree(&[
        "/d/",
        "/d/e/",
        "/d/e/f.txt",
        "/d/g.md",
        "/d/h.txt",
        "/a.txt",
        "/b.txt",
        "/c.md",
        "/l -> d",
        "/m -> /a.txt",
        "/out -> ../../../../a.txt",
        "/x y",
    ])
}

fn copied(target: &State, copy: CopyFiles) -> State {
    let copy = CopyFiles { create_dest_path: true, ..copy };
    target.file(FileActions::new().copy(&source(), copy), OpOptions::default())
}

fn plain(src: &str, dest: &str) -> CopyFiles {
    CopyFiles { src: src.to_owned(), dest: dest.to_owned(), ..CopyFiles::default() }
}

fn contents(src: &str, dest: &str) -> CopyFiles {
    CopyFiles { dir_copy_contents: true, ..plain(src, dest) }
}

fn wild(src: &str, dest: &str) -> CopyFiles {
    CopyFiles { allow_wildcard: true, ..contents(src, dest) }
}

fn follow(copy: CopyFiles) -> CopyFiles {
    CopyFiles { follow_symlink: true, ..copy }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn what_goes_where() {
    let world = World::new().await;
    let empty: &[&str] = &["/.keep"];
    let cases: &[(&[&str], CopyFiles, &[&str])] = &[
        (empty, plain("/a.txt", "/z"), &["/z"]),
        (empty, plain("/a.txt", "/z/"), &["/z/", "/z/a.txt"]),
        (empty, plain("/a.txt", "/z/."), &["/z/", "/z/a.txt"]),
        (empty, plain("/a.txt", "/p/q/z"), &["/p/", "/p/q/", "/p/q/z"]),
        (&["/z/"], plain("/a.txt", "/z"), &["/z/", "/z/a.txt"]),
        (empty, plain("/a.txt", "/"), &["/a.txt"]),
        (empty, plain("/d", "/z"), &["/z/", "/z/e/", "/z/e/f.txt", "/z/g.md", "/z/h.txt"]),
        (&["/z/"], plain("/d/e", "/z"), &["/z/", "/z/e/", "/z/e/f.txt"]),
        (&["/z/"], contents("/d/e", "/z"), &["/z/", "/z/f.txt"]),
        (empty, contents("/d/e", "/z"), &["/z/", "/z/f.txt"]),
        (empty, contents("/d/e", "/z/"), &["/z/", "/z/f.txt"]),
        (empty, wild("/*.txt", "/z/"), &["/z/", "/z/a.txt", "/z/b.txt"]),
        (empty, wild("/d*/e", "/z"), &["/z/", "/z/f.txt"]),
        (empty, wild("/x y", "/z"), &["/z"]),
        (&["/z"], plain("/b.txt", "/z"), &["/z"]),
        (&["/r/", "/s -> r"], plain("/a.txt", "/s/"), &["/r/", "/r/a.txt", "/s -> r"]),
        (&["/s -> /r"], plain("/a.txt", "/s/"), &["/r/", "/r/a.txt", "/s -> /r"]),
        (&["/s -> ../../up"], plain("/a.txt", "/s/"), &["/s -> ../../up", "/up/", "/up/a.txt"]),
        (&["/t", "/s -> t"], plain("/a.txt", "/s"), &["/s -> t", "/t"]),
        (&["/s -> ../t"], plain("/a.txt", "/s"), &["/s -> ../t", "/t"]),
        (&["/z/", "/t", "/z/a.txt -> /t"], plain("/a.txt", "/z"), &["/t", "/z/", "/z/a.txt"]),
        (&["/r/", "/s -> r"], contents("/d/e", "/s"), &["/r/", "/r/f.txt", "/s -> r"]),
        (&["/z/"], follow(plain("/m", "/z/")), &["/z/", "/z/m"]),
        (
            &["/z/"],
            follow(plain("/l", "/z/")),
            &["/z/", "/z/l/", "/z/l/e/", "/z/l/e/f.txt", "/z/l/g.md", "/z/l/h.txt"],
        ),
        (empty, plain("/l", "/z"), &["/z -> d"]),
        (empty, plain("/../../a.txt", "/../../z"), &["/z"]),
        (
            empty,
            follow(contents("/l", "/z")),
            &["/z/", "/z/e/", "/z/e/f.txt", "/z/g.md", "/z/h.txt"],
        ),
        (empty, follow(plain("/out", "/z")), &["/z"]),
        (
            empty,
            CopyFiles { include_patterns: texts(&["**/*.txt"]), ..contents("/d", "/z") },
            &["/z/", "/z/e/", "/z/e/f.txt", "/z/h.txt"],
        ),
        (
            empty,
            CopyFiles { include_patterns: texts(&["nothing"]), ..contents("/d", "/z") },
            &["/z/"],
        ),
        (
            empty,
            CopyFiles { exclude_patterns: texts(&["e"]), ..contents("/d", "/z") },
            &["/z/", "/z/g.md", "/z/h.txt"],
        ),
        (
            empty,
            CopyFiles { exclude_patterns: texts(&["**", "!e/f.txt"]), ..contents("/d", "/z") },
            &["/z/", "/z/e/", "/z/e/f.txt"],
        ),
        (
            empty,
            CopyFiles { exclude_patterns: texts(&["a.txt"]), ..wild("/*.txt", "/z/") },
            &["/z/", "/z/a.txt", "/z/b.txt"],
        ),
        (
            &["/z/", "/z/e"],
            CopyFiles { always_replace: true, ..contents("/d", "/z") },
            &["/z/", "/z/e/", "/z/e/f.txt", "/z/g.md", "/z/h.txt"],
        ),
        (
            &["/z/", "/z/a.txt/", "/z/a.txt/old"],
            CopyFiles { always_replace: true, ..plain("/a.txt", "/z/") },
            &["/z/", "/z/a.txt"],
        ),
        (empty, CopyFiles { allow_empty_wildcard: true, ..wild("/no*", "/z/") }, &[]),
    ];
    for (target, copy, expected) in cases {
        let built = world.build(&copied(&tree(target), copy.clone())).await;
        let built = built.unwrap_or_else(|error| panic!("{copy:?}: {}", error.source.full_text()));
        let mut seen = world.list(&built.tree).await;
        seen.retain(|path| path != "/.keep");
        assert_eq!(seen, *expected, "{copy:?} to {target:?}");
    }
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let world = World::new().await;
    let checksum = "failed to compute cache key: failed to calculate checksum of ref";
    let required = CopyFiles { required_paths: texts(&["/gone"]), ..contents("/d", "/z") };
    let cases: &[(&[&str], CopyFiles, &str)] = &[
        (&["/k"], plain("/gone", "/z"), "\"/gone\": not found"),
        (&["/k"], wild("/gone*", "/z"), "\"/gone*\": not found"),
        (&["/k"], required, "\"/gone\": not found"),
        (&["/z/", "/z/e"], contents("/d", "/z"), "is in the way"),
        (&["/z/", "/z/a.txt/"], plain("/a.txt", "/z/"), "is in the way"),
        (
            &["/k"],
            CopyFiles { mode: Some(CopyMode::Symbolic("u+q".into())), ..plain("/d", "/z") },
            "u+q",
        ),
    ];
    for (target, copy, expected) in cases {
        let text = world.failure(&copied(&tree(target), copy.clone())).await;
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.contains("not found"), text.starts_with(checksum), "{text}");
    }
    let no_parents = FileActions::new().copy(&source(), plain("/a.txt", "/no/such/z"));
    let state = State::scratch().file(no_parents, OpOptions::default());
    assert_eq!(world.failure(&state).await, "lstat /no/such: no such file or directory");
}

#[tokio::test]
async fn owners_modes_and_times_are_what_was_asked_for() {
    let world = World::new().await;
    let seen = async |copy: CopyFiles, path: &str| {
        let built = world.build(&copied(&tree(&["/k"]), copy)).await.unwrap();
        let stat = world.stat(&built.tree, path).await;
        (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid, stat.st_mtime)
    };
    let all = || CopyFiles {
        owner: Some(Owner::ids(7, 8)),
        mode: Some(CopyMode::Bits(0o4750)),
        timestamp: Some(5_000_000_000),
        ..plain("/d", "/p/z")
    };
    assert_eq!(seen(all(), "/p").await.0, 0o750);
    for path in ["/p/z", "/p/z/e", "/p/z/e/f.txt"] {
        assert_eq!(seen(all(), path).await, (0o4750, 7, 8, 5), "{path}");
    }
    assert_eq!(seen(all(), "/p").await.1, 7);
    assert_eq!(seen(plain("/d", "/z"), "/z/g.md").await, (0o644, 0, 0, 0));
    let symbolic =
        || CopyFiles { mode: Some(CopyMode::Symbolic("go-r,a+X".into())), ..plain("/d", "/z") };
    assert_eq!(seen(symbolic(), "/z/g.md").await.0, 0o600);
    assert_eq!(seen(symbolic(), "/z/e").await.0, 0o711);
}

#[tokio::test]
async fn what_is_copied_to_is_written_through_a_link_that_stays() {
    let world = World::new().await;
    let base = tree(&["/t", "/s -> /t"]);
    let built = world.build(&copied(&base, plain("/a.txt", "/s"))).await.unwrap();
    assert_eq!(world.read(&built.tree, "/t").await, "/a.txt");
}

#[tokio::test]
async fn a_directory_that_receives_the_contents_of_another_takes_its_time_and_nothing_else() {
    let world = World::new().await;
    let directory = |path: &str, mode, time: i64| {
        let (path, timestamp) = (path.to_owned(), Some(time * 1_000_000_000));
        MakeDir { path, mode, timestamp, owner: Some(Owner::ids(3, 4)), ..MakeDir::default() }
    };
    let made = |directory| {
        State::scratch().file(FileActions::new().make_dir(directory), OpOptions::default())
    };
    let (from, base) = (made(directory("/d", 0o700, 9)), made(directory("/old", 0o711, 5)));
    for (dest, expected) in [("/old", (0o711, 3, 9)), ("/new", (0o755, 0, 9))] {
        let copy = CopyFiles { create_dest_path: true, ..contents("/d", dest) };
        let state = base.file(FileActions::new().copy(&from, copy), OpOptions::default());
        let built = world.build(&state).await.unwrap();
        let stat = world.stat(&built.tree, dest).await;
        assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_mtime), expected, "{dest}");
    }
}

#[tokio::test]
async fn trees_made_to_do_harm_are_errors_or_removed() {
    let world = World::new().await;
    let mut deep = FileActions::new();
    let mut path = String::new();
    for _ in 0..8 {
        path.push_str(&"/d".repeat(100));
        let path = path.clone();
        deep =
            deep.make_dir(MakeDir { path, mode: 0o755, make_parents: true, ..MakeDir::default() });
    }
    let deep = State::scratch().file(deep, OpOptions::named("deep"));
    for exclude_patterns in [texts(&[]), texts(&["x"])] {
        let copy = CopyFiles { exclude_patterns, ..contents("/d", "/z") };
        let copied =
            State::scratch().file(FileActions::new().copy(&deep, copy), OpOptions::default());
        let text = world.failure(&copied).await;
        assert!(text.contains("directories deep"), "{text}");
    }
    let remove = llb::Remove { path: "/d".to_owned(), ..llb::Remove::default() };
    let removed = deep.file(FileActions::new().remove(remove), OpOptions::default());
    let built = world.build(&removed).await.unwrap();
    assert!(world.list(&built.tree).await.is_empty());
}
