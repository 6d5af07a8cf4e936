//! Locks between this process and real second ones: this very binary, started again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use filelock::{Cancel, FileLock, Holder, Label, LockError, Mode};

/// The test that is really the second process.
const SECOND: &str = "second_process";

fn label(step: &str) -> Label {
    Label { build: "b1".to_owned(), step: step.to_owned() }
}

/// Another process that holds a lock until told to let go, or killed.
struct Second {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Second {
    fn start(path: &Path, mode: Mode) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a lock between processes needs two of them")]
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command
            .args([SECOND, "--exact", "--nocapture", "--include-ignored"])
            .env("LOCK_PATH", path)
            .env("LOCK_SHARED", if mode == Mode::Shared { "1" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut second = Self { stdin: child.stdin.take(), child, lines };
        second.expect("locked");
        second
    }

    /// Reads until a line that ends in `word`.
    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.trim_end().ends_with(word) {
                return;
            }
            line.clear();
        }
        panic!("the second process ended without saying `{word}`");
    }

    fn let_go(mut self) {
        self.stdin.take().unwrap().write_all(b"go\n").unwrap();
        self.child.wait().unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "started by the other tests, as their second process"]
fn second_process() {
    #[expect(clippy::disallowed_methods, reason = "how the first process says what to do")]
    let (path, shared) = (std::env::var("LOCK_PATH"), std::env::var("LOCK_SHARED"));
    let Ok(path) = path else { return };
    let mode =
        if shared.is_ok_and(|text| !text.is_empty()) { Mode::Shared } else { Mode::Exclusive };
    let holder = Holder::here(label("second"));
    let lock = FileLock::try_acquire(Path::new(&path), mode, Some(&holder)).unwrap();
    println!("\nlocked");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(lock);
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    (directory, path)
}

#[test]
fn a_refusal_names_the_process_build_and_step_that_hold() {
    let (_directory, path) = place();
    let second = Second::start(&path, Mode::Exclusive);
    let pid = second.child.id();
    let error = FileLock::try_acquire(&path, Mode::Shared, None).unwrap_err();
    let text = error.to_string();
    let LockError::Held { holder: Some(holder), .. } = error else { panic!("{text}") };
    assert_eq!((holder.pid, &holder.label), (pid, &label("second")));
    assert!(text.contains("step `second` of build `b1`"), "{text}");
    assert_eq!(FileLock::holder_of(&path).unwrap(), Some(holder));
    second.let_go();
    assert!(!FileLock::is_held(&path).unwrap());
    assert_eq!(FileLock::holder_of(&path).unwrap(), None);
}

#[test]
fn a_look_holds_nothing_although_processes_are_started_meanwhile() {
    let (_directory, path) = place();
    drop(FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap());
    let starting = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..500 {
                #[expect(clippy::disallowed_methods, reason = "a start has our files open")]
                let started = Command::new("/bin/true").status();
                assert!(started.unwrap().success());
            }
            starting.store(false, Ordering::Release);
        });
        while starting.load(Ordering::Acquire) {
            assert!(!FileLock::is_held(&path).unwrap(), "nobody holds it");
            assert_eq!(FileLock::holder_of(&path).unwrap(), None);
            drop(FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap());
        }
    });
}

#[test]
fn shared_holders_go_together_and_keep_an_exclusive_one_out() {
    let (_directory, path) = place();
    let second = Second::start(&path, Mode::Shared);
    let here = FileLock::try_acquire(&path, Mode::Shared, None).unwrap();
    assert_eq!(here.mode(), Mode::Shared);
    drop(here);
    assert!(FileLock::is_held(&path).unwrap());
    assert!(matches!(
        FileLock::try_acquire(&path, Mode::Exclusive, None),
        Err(LockError::Held { holder: None, .. })
    ));
    second.let_go();
}

/// Waits for a lock on a thread of its own; the receiver hears the outcome.
fn wait(path: &Path, cancel: &Cancel) -> mpsc::Receiver<Result<FileLock, LockError>> {
    let (sender, receiver) = mpsc::channel();
    let (path, cancel) = (path.to_owned(), cancel.clone());
    std::thread::spawn(move || {
        sender.send(FileLock::acquire_or_cancel(&path, Mode::Exclusive, None, &cancel)).unwrap();
    });
    receiver
}

#[test]
fn a_wait_ends_when_the_holder_lets_go_or_dies() {
    for ending in [Second::let_go, Second::kill] {
        let (_directory, path) = place();
        let second = Second::start(&path, Mode::Exclusive);
        let waiting = wait(&path, &Cancel::new().unwrap());
        assert!(waiting.try_recv().is_err());
        ending(second);
        let lock = waiting.recv().unwrap().unwrap();
        assert_eq!(lock.path(), path);
    }
}

#[test]
fn a_wait_can_be_called_off_while_the_holder_lives() {
    let (_directory, path) = place();
    let second = Second::start(&path, Mode::Exclusive);
    let cancel = Cancel::new().unwrap();
    let waiting = wait(&path, &cancel);
    cancel.cancel();
    assert!(matches!(waiting.recv().unwrap(), Err(LockError::Cancelled { .. })));
    assert!(cancel.is_cancelled());
    second.let_go();
}

#[test]
fn a_removed_file_never_makes_two_holders() {
    let (_directory, path) = place();
    let first = FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap();
    let waiting = wait(&path, &Cancel::new().unwrap());
    first.remove().unwrap();
    let second = waiting.recv().unwrap().unwrap();
    // The waiter's lock is on the file that the path leads to now, not on the removed one.
    assert!(matches!(
        FileLock::try_acquire(&path, Mode::Exclusive, None),
        Err(LockError::Held { .. })
    ));
    drop(second);
    drop(FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap());
}

#[test]
fn many_threads_hold_one_at_a_time_while_files_come_and_go() {
    let (_directory, path) = place();
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (path, inside) = (&path, &inside);
            scope.spawn(move || {
                for round in 0..50 {
                    let lock = FileLock::acquire(path, Mode::Exclusive, None).unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    if (thread + round) % 3 == 0 {
                        lock.remove().unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn a_lock_keeps_hold_under_another_name() {
    let (directory, path) = place();
    let mut lock = FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap();
    let renamed = directory.path().join("renamed");
    lock.rename(&renamed).unwrap();
    assert!(FileLock::is_held(&renamed).unwrap() && !FileLock::is_held(&path).unwrap());
    lock.remove().unwrap();
    assert!(!renamed.exists());
}

#[test]
fn a_parked_lock_keeps_nobody_out_and_is_taken_again_only_if_it_is_still_there() {
    let (_directory, path) = place();
    let parked = FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap().park();
    let second = Second::start(&path, Mode::Exclusive);
    assert!(parked.resume(None).unwrap().is_none(), "somebody else has it");
    second.let_go();

    let parked = FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap().park();
    let holder = Holder::here(label("again"));
    let lock = parked.resume(Some(&holder)).unwrap().unwrap();
    assert_eq!(FileLock::holder_of(&path).unwrap().unwrap().label, label("again"));
    let parked = lock.park();
    assert_eq!(parked.path(), path);
    std::fs::remove_file(&path).unwrap();
    assert!(parked.resume(None).unwrap().is_none(), "the file is gone");
    assert!(!path.exists());
}

#[test]
fn a_stale_or_damaged_name_is_no_obstacle() {
    let (_directory, path) = place();
    for content in ["", "{", "{\"pid\":1}", &"x".repeat(100_000)] {
        std::fs::write(&path, content).unwrap();
        assert!(!FileLock::is_held(&path).unwrap());
        let holder = Holder::here(label("new"));
        let lock = FileLock::try_acquire(&path, Mode::Exclusive, Some(&holder)).unwrap();
        assert_eq!(FileLock::holder_of(&path).unwrap().unwrap().label, label("new"));
        drop(lock);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = FileLock::try_acquire(&path, Mode::Exclusive, None).unwrap_err();
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
}
