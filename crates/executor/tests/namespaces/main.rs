//! Processes in real namespaces. Needs root and a static busybox.
//!
//! This program is its own helper, so it has its own `main`: names given as arguments choose the tests
//! whose names contain them.

mod fixture;
mod isolation;
mod lifecycle;
mod mounting;
mod running;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;

use futures::FutureExt as _;

/// What a test returns.
pub(crate) type Outcome = anyhow::Result<()>;
/// A test, by name.
pub(crate) type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = Outcome>>>);

/// Lists tests for [`main`].
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), || Box::pin($name()))),*]
    };
}

fn main() -> ExitCode {
    executor::run_if_helper();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    if std::env::args().next().as_deref() == Some(lifecycle::DAEMON) {
        return match runtime.block_on(lifecycle::play_daemon()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let all = [running::CASES, isolation::CASES, mounting::CASES, lifecycle::CASES].concat();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, case) in all {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let outcome = runtime.block_on(AssertUnwindSafe(case()).catch_unwind());
        match outcome {
            Ok(Ok(())) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Ok(Err(error)) => {
                println!("test {name} ... FAILED\n{error:#}");
                failed.push(name);
            }
            Err(_) => failed.push(name),
        }
    }
    println!("\n{passed} passed, {} failed: {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
