//! What is recognised by its content.

use llb::{CopyFiles, FileActions, MakeFile, OpOptions, State};

use crate::world::World;

fn files(name: &str, files: &[(&str, &str)]) -> State {
    let mut actions = FileActions::new();
    for (path, text) in files {
        let (path, data) = ((*path).to_owned(), text.as_bytes().to_vec().into());
        let file = MakeFile { path, data, mode: 0o644, timestamp: Some(0), ..MakeFile::default() };
        actions = actions.make_file(file);
    }
    State::scratch().file(actions, OpOptions::named(name))
}

fn copy(from: &State, src: &str) -> State {
    let copy = CopyFiles { src: src.to_owned(), dest: "/to".to_owned(), ..CopyFiles::default() };
    State::scratch().file(FileActions::new().copy(from, copy), OpOptions::named("copy"))
}

#[tokio::test]
async fn the_same_content_is_the_same_wherever_it_comes_from() {
    let world = World::new().await;
    world.build(&copy(&files("one", &[("/a", "1"), ("/b", "1")]), "/a")).await.unwrap();
    // Another tree, with the same in the part that is copied.
    let second = copy(&files("two", &[("/a", "1"), ("/b", "2")]), "/a");
    assert_eq!(world.build(&second).await.unwrap().ran(), ["two"]);
    let third = copy(&files("three", &[("/a", "changed"), ("/b", "1")]), "/a");
    let built = world.build(&third).await.unwrap();
    assert_eq!(built.ran(), ["copy", "three"]);
    assert_eq!(world.read(&built.tree, "/to").await, "changed");
    drop(built);
    let world = world.reopen().await;
    assert!(!world.build(&second).await.unwrap().ran().contains(&"copy".to_owned()));
}
