//! What a process is given, and what it gives back.

use anyhow::ensure;
use bytes::Bytes;
use executor::{
    ExecSpec, Executor as _, ExitStatus, Input, LimitName, Output, ProcessIo, Security, Signal,
    TerminalSize, Ulimit, UserSpec,
};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, collect, collecting, guest, text};
use crate::{Case, Outcome, cases};

pub(crate) const CASES: &[Case] = cases![
    exit_codes_and_signals_are_told,
    output_comes_as_it_is_written,
    ten_megabytes_of_output_arrive,
    a_reader_that_went_away_does_not_stop_the_process,
    input_is_passed_and_ends,
    environment_and_working_directory,
    a_missing_working_directory_is_the_users,
    users_are_looked_up_in_the_image,
    what_is_missing_is_named,
    a_user_can_reopen_its_standard_output,
    limits_are_set,
    signals_reach_the_process,
    a_terminal_is_a_terminal,
    further_processes_share_the_container,
    forty_at_once,
];

async fn exit_codes_and_signals_are_told() -> Outcome {
    let fixture = Fixture::new().await?;
    for (script, status) in [
        ("true", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("exit 255", ExitStatus::Code(255)),
    ] {
        let done = fixture.run(fixture.shell(script)).await?;
        ensure!(done.status == status, "{script}: {done:?}");
    }
    // The first process of a container cannot kill itself; a child of it can.
    let done = fixture.run(fixture.shell("sh -c 'kill -9 $$'; exit $?")).await?;
    ensure!(done.status == ExitStatus::Code(137), "{done:?}");
    Ok(())
}

async fn output_comes_as_it_is_written() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, mut stdout, stderr) = collecting();
    let (input, chunks) = mpsc::channel(1);
    let io = ProcessIo { stdin: Input::Chunks(chunks), ..io };
    let spec = fixture.shell("echo one; read word; echo $word; echo problem >&2");
    let running = fixture.executor.start(spec, io).await?;
    // The first line is here although the process has not ended.
    ensure!(stdout.recv().await.unwrap_or_default() == b"one\n"[..]);
    input.send(Bytes::from_static(b"two\n")).await?;
    ensure!(stdout.recv().await.unwrap_or_default() == b"two\n"[..]);
    let done = collect(running, stdout, stderr).await?;
    ensure!(done.stderr == "problem\n" && done.status.success(), "{done:?}");
    Ok(())
}

async fn ten_megabytes_of_output_arrive() -> Outcome {
    let fixture = Fixture::new().await?;
    let script = "yes 0123456789abcde | head -c 10485760; echo -n end >&2";
    let done = fixture.run(fixture.shell(script)).await?;
    ensure!(done.stdout.len() == 10 << 20, "{}", done.stdout.len());
    ensure!(done.stdout.as_bytes().chunks(16).all(|line| line == b"0123456789abcde\n"));
    ensure!(done.stderr == "end");
    Ok(())
}

async fn a_reader_that_went_away_does_not_stop_the_process() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, stdout, _stderr) = collecting();
    drop(stdout);
    let spec = fixture.shell("yes | head -c 1000000; echo done > /tmp/done");
    let running = fixture.executor.start(spec, io).await?;
    ensure!(running.wait().await?.success());
    ensure!(fixture.path("upper/tmp/done").exists());
    Ok(())
}

async fn input_is_passed_and_ends() -> Outcome {
    let fixture = Fixture::new().await?;
    let (sender, chunks) = mpsc::channel(1);
    let (io, stdout, stderr) = collecting();
    let io = ProcessIo { stdin: Input::Chunks(chunks), ..io };
    let running = fixture.executor.start(fixture.spec(&["wc", "-c"]), io).await?;
    let feed = async {
        for _ in 0..100 {
            sender.send(Bytes::from(vec![b'x'; 10_000])).await.expect("reads");
        }
        drop(sender);
    };
    let (done, ()) = tokio::join!(collect(running, stdout, stderr), feed);
    ensure!(done?.stdout.trim() == "1000000");
    Ok(())
}

async fn environment_and_working_directory() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("env; pwd; umask; id -u; hostname; echo $$");
    spec.env = vec!["A=b c".to_owned()];
    spec.cwd = guest("/var");
    let done = fixture.run(spec).await?;
    for line in [
        "A=b c",
        "HOME=/root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "/var",
        "0022",
        "0",
        "buildkitsandbox",
        "1",
    ] {
        ensure!(done.stdout.lines().any(|said| said == line), "{line}: {done:?}");
    }
    Ok(())
}

async fn a_missing_working_directory_is_the_users() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("stat -c '%u:%g %a' /a /a/b; echo x > here");
    spec.cwd = guest("/a/b");
    spec.user = UserSpec::new("ann");
    let done = fixture.run(spec).await?;
    ensure!(done.stdout == "1000:1001 755\n1000:1001 755\n", "{done:?}");
    ensure!(fixture.path("upper/a/b/here").exists());
    Ok(())
}

async fn users_are_looked_up_in_the_image() -> Outcome {
    let fixture = Fixture::new().await?;
    for (user, expected) in [
        ("", "0 0 0 /root"),
        ("ann", "1000 1001 1001 10 /home/ann"),
        ("1000:10", "1000 10 10 /home/ann"),
        ("4000", "4000 0 0 /"),
    ] {
        let mut spec = fixture.shell("echo $(id -u) $(id -g) $(id -G) $HOME");
        spec.user = UserSpec::new(user);
        let done = fixture.run(spec).await?;
        ensure!(done.stdout.trim() == expected, "{user}: {done:?}");
    }
    Ok(())
}

async fn what_is_missing_is_named() -> Outcome {
    let fixture = Fixture::new().await?;
    let error = |spec| {
        let run = fixture.run(spec);
        async { run.await.map_err(|error| error.to_string()).expect_err("must fail") }
    };
    let said = error(fixture.spec(&["nonsense"])).await;
    ensure!(said == r#"exec: "nonsense": executable file not found in $PATH"#, "{said}");
    let said = error(fixture.spec(&["/bin/nonsense"])).await;
    ensure!(said == r#"exec: "/bin/nonsense": no such file or directory"#, "{said}");
    let said = error(fixture.spec(&["/etc/passwd"])).await;
    ensure!(said == r#"exec: "/etc/passwd": permission denied"#, "{said}");
    let mut spec = fixture.spec(&["true"]);
    spec.user = UserSpec::new("foo");
    let said = error(spec).await;
    ensure!(said == "unable to find user foo: no matching entries in passwd file", "{said}");
    let mut spec = fixture.spec(&["true"]);
    spec.cwd = guest("/etc/passwd");
    let said = error(spec).await;
    ensure!(said.starts_with("cannot use working directory `/etc/passwd`"), "{said}");
    ensure!(fixture.written().is_empty(), "{:?}", fixture.written());
    Ok(())
}

async fn a_user_can_reopen_its_standard_output() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("echo out > /dev/stdout; echo err > /dev/stderr");
    spec.user = UserSpec::new("ann");
    let done = fixture.run(spec).await?;
    ensure!(done.stdout == "out\n" && done.stderr == "err\n", "{done:?}");
    Ok(())
}

async fn limits_are_set() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut spec = fixture.shell("ulimit -n; ulimit -Hn; ulimit -c");
    spec.ulimits = vec![
        Ulimit { name: LimitName::Nofile, soft: 100, hard: 200 },
        Ulimit { name: LimitName::Core, soft: u64::MAX, hard: u64::MAX },
    ];
    let done = fixture.run(spec).await?;
    ensure!(done.stdout == "100\n200\nunlimited\n", "{done:?}");
    Ok(())
}

async fn signals_reach_the_process() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, mut stdout, stderr) = collecting();
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let running = fixture.executor.start(fixture.shell(script), io).await?;
    ensure!(stdout.recv().await.unwrap_or_default() == b"ready\n"[..]);
    running.signal(Signal::TERM)?;
    let done = collect(running, stdout, stderr).await?;
    ensure!(done.stdout == "caught\n" && done.status == ExitStatus::Code(3), "{done:?}");

    let running =
        fixture.executor.start(fixture.spec(&["sleep", "1000"]), ProcessIo::null()).await?;
    running.signal(Signal::KILL)?;
    ensure!(running.wait().await? == ExitStatus::Signal(9));
    ensure!(running.wait().await? == ExitStatus::Signal(9), "it can be asked twice");
    ensure!(running.signal(Signal::TERM).is_err());
    Ok(())
}

async fn a_terminal_is_a_terminal() -> Outcome {
    let fixture = Fixture::new().await?;
    let (out, mut stdout) = mpsc::channel(16);
    let (input, chunks) = mpsc::channel(1);
    let io = ProcessIo {
        stdin: Input::Chunks(chunks),
        stdout: Output::Chunks(out),
        stderr: Output::Discard,
    };
    let mut spec = fixture.shell("tty; read go; stty size; echo hi > /dev/console; echo to >&2");
    spec.tty = true;
    spec.user = UserSpec::new("ann");
    let running = fixture.executor.start(spec, io).await?;
    let first = stdout.recv().await.unwrap_or_default();
    ensure!(first.starts_with(b"/dev/pts/0"), "{first:?}");
    running.resize(TerminalSize { rows: 33, columns: 77 })?;
    input.send(Bytes::from_static(b"go\n")).await?;
    let (rest, status) = tokio::join!(text(stdout), running.wait());
    ensure!(rest.contains("33 77") && rest.contains("hi") && rest.contains("to"), "{rest}");
    ensure!(status?.success());
    Ok(())
}

async fn further_processes_share_the_container() -> Outcome {
    let fixture = Fixture::new().await?;
    let (io, mut stdout, _stderr) = collecting();
    let spec = fixture.shell("echo inside > /tmp/note; echo ready; sleep 1000");
    let first = fixture.executor.start(spec, io).await?;
    ensure!(stdout.recv().await.unwrap_or_default() == b"ready\n"[..]);
    let exec = |script: &str, user: &str, tty: bool| ExecSpec {
        args: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        env: vec!["X=y".to_owned()],
        cwd: guest("/tmp"),
        user: UserSpec::new(user),
        security: Security::Sandbox,
        tty,
    };
    let (io, stdout, stderr) = collecting();
    let script =
        "cat note; echo $X $(id -u); readlink /proc/1/exe; grep Seccomp: /proc/self/status";
    let second = first.exec(exec(script, "ann", false), io).await?;
    let done = collect(second, stdout, stderr).await?;
    ensure!(done.stdout.starts_with("inside\ny 1000\n"), "{done:?}");
    ensure!(done.stdout.ends_with("Seccomp:\t2\n"), "{done:?}");
    let (io, stdout, stderr) = collecting();
    let second = first.exec(exec("tty; exit 5", "", true), io).await?;
    let done = collect(second, stdout, stderr).await?;
    ensure!(done.stdout.starts_with("/dev/pts/"), "{done:?}");
    ensure!(done.status == ExitStatus::Code(5), "{done:?}");
    let missing = ExecSpec { args: vec!["nonsense".to_owned()], ..exec("", "", false) };
    let error = first.exec(missing, ProcessIo::null()).await.map(drop);
    ensure!(matches!(&error, Err(executor::ExecutorError::Setup(_))), "{error:?}");
    // A further process ends with the first.
    let last = first.exec(exec("sleep 1000", "", false), ProcessIo::null()).await?;
    ensure!(first.stop().await? == ExitStatus::Signal(9));
    ensure!(last.wait().await? == ExitStatus::Signal(9));
    let late = first.exec(exec("true", "", false), ProcessIo::null()).await.map(drop);
    ensure!(matches!(&late, Err(executor::ExecutorError::NotRunning(_))), "{late:?}");
    Ok(())
}

async fn forty_at_once() -> Outcome {
    let fixture = Fixture::new().await?;
    let runs = (0..40).map(|number| {
        let mut spec = fixture.shell(&format!("echo {number}; exit {number}"));
        spec.root = fixture.layer(&format!("-{number}"));
        fixture.run(spec)
    });
    for (number, done) in futures::future::join_all(runs).await.into_iter().enumerate() {
        let done = done?;
        ensure!(done.stdout.trim() == number.to_string(), "{done:?}");
        ensure!(done.status == ExitStatus::Code(number as u8), "{done:?}");
    }
    Ok(())
}
