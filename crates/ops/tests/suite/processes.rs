//! Steps that run a process, with an executor that runs nothing.

use std::io::Write as _;

use executor::{FakeExecutor, FakeProcess, GuestMount, ProcessSpec, SetupError};
use llb::{ExecOptions, FileActions, MakeDir, OpOptions, RunMount, State};
use mount::Mount;
use rustix::fs::{Mode, OFlags};

use crate::world::{World, guest};

/// Returns an executor whose processes write their last argument into `/out`, and end with `code`.
fn writing(code: u8) -> FakeExecutor {
    FakeExecutor::new(move |spec: &ProcessSpec| {
        write(&spec.root, "/out", spec.args.last().map_or("", String::as_str));
        Ok(FakeProcess::exits(code).says("hello\n"))
    })
}

fn write(mount: &Mount, path: &str, text: &str) {
    let root = mount::detached::open(mount).unwrap().root().unwrap();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = root.open_at(&guest(path), flags, Mode::from_raw_mode(0o644)).unwrap();
    std::fs::File::from(file).write_all(text.as_bytes()).unwrap();
}

fn base() -> State {
    let made = MakeDir { path: "/base".to_owned(), mode: 0o755, ..MakeDir::default() };
    State::scratch().file(FileActions::new().make_dir(made), OpOptions::named("base"))
}

fn options(args: &[&str]) -> ExecOptions {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    ExecOptions { args, cwd: "/".to_owned(), ..ExecOptions::default() }
}

#[tokio::test]
async fn what_a_process_wrote_is_its_result_and_is_found_again() {
    let world = World::running(writing(0)).await;
    let state = base().run(options(&["say", "it"]), OpOptions::named("step")).root();
    let built = world.build(&state).await.unwrap();
    assert_eq!(world.list(&built.tree).await, ["/base/", "/out"]);
    assert_eq!(
        (world.read(&built.tree, "/out").await, built.log()),
        ("it".into(), "hello\n".into())
    );
    assert!(!world.build(&state).await.unwrap().ran().contains(&"step".to_owned()));
    assert_eq!(world.executor.started().len(), 1);
}

#[tokio::test]
async fn a_process_that_fails_leaves_its_text_and_nothing_else() {
    let world = World::running(writing(7)).await;
    let state = base().run(options(&["make", "\"all\""]), OpOptions::named("step")).root();
    assert_eq!(
        world.failure(&state).await,
        r#"process "make \"all\"" did not complete successfully: exit code: 7"#
    );
    let accepted = ExecOptions { valid_exit_codes: vec![7], ..options(&["make", "\"all\""]) };
    world.build(&base().run(accepted, OpOptions::default()).root()).await.unwrap();
}

#[tokio::test]
async fn a_process_that_cannot_start_says_why_and_of_which_step() {
    let text = "exec: \"/no\": no such file or directory";
    let (command, reason) = ("/no".to_owned(), "no such file or directory".to_owned());
    let missing = SetupError::CommandNotExecutable { command, reason };
    let nobody = SetupError::UserNotFound("nobody".to_owned());
    for (error, log, ended) in [
        (missing, format!("{text}\n"), "exit code: 1"),
        (nobody, String::new(), "unable to find user nobody: no matching entries in passwd file"),
    ] {
        let world = World::running(FakeExecutor::new(move |_| Err(error.clone()))).await;
        let options = ExecOptions { valid_exit_codes: vec![0, 1], ..options(&["/no", "x"]) };
        let state = base().run(options, OpOptions::named("step")).root();
        let (job, feed) = world.job("job");
        let failed = job.build(crate::world::edge(&state).unwrap()).await.unwrap_err();
        assert_eq!(
            failed.source.full_text(),
            format!("process \"/no x\" did not complete successfully: {ended}")
        );
        assert_eq!(crate::world::log(&feed.snapshot()), log);
    }
}

#[tokio::test]
async fn mounts_come_parents_first_and_each_kind_as_it_is() {
    let world = World::running(writing(0)).await;
    let mut run = options(&["x"]);
    run.mounts = vec![
        RunMount::tmpfs("/z/inner", 1 << 20),
        RunMount::bind("/z", base()),
        RunMount { readonly: true, ..RunMount::bind("/a/b", base()) },
        RunMount::tmpfs("/a", 0),
    ];
    let state = base().run(run, OpOptions::named("step"));
    world.build(&state.root()).await.unwrap();
    let spec = world.executor.started().remove(0);
    let targets: Vec<_> = spec.mounts.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(targets, ["/a", "/a/b", "/z", "/z/inner"]);
    assert_eq!(spec.mounts[0].1, GuestMount::Tmpfs { size: None, mode: 0o1777 });
    assert_eq!(spec.mounts[3].1, GuestMount::Tmpfs { size: Some(1 << 20), mode: 0o1777 });
    let readonly = |index: usize| match &spec.mounts[index].1 {
        GuestMount::Mount { mount, .. } => mount.readonly,
        other => panic!("{other:?}"),
    };
    assert!(readonly(1) && !readonly(2));
    let mounted = world.build(&state.mount("/z").unwrap()).await.unwrap();
    assert_eq!(world.list(&mounted.tree).await, ["/base/"]);
}

#[tokio::test]
async fn a_cancelled_process_leaves_nothing() {
    let world = World::running(FakeExecutor::new(|_| Ok(FakeProcess::hangs().says("begun")))).await;
    let state = base().run(options(&["sleep"]), OpOptions::named("step")).root();
    let (job, feed) = world.job("job");
    let mut reader = feed.reader();
    let build = tasks::spawn("build", {
        let edge = crate::world::edge(&state).unwrap();
        async move { job.build(edge).await.map(|tree| tree.keys()) }
    });
    while let Some(events) = reader.next_batch().await {
        if !crate::world::log(&events).is_empty() {
            break;
        }
    }
    drop(build);
    while !world.executor.running().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.refs.usage().len(), 1, "only what the step was based on");
}
