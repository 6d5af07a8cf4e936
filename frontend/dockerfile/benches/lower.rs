//! How long a large Dockerfile takes, and how much memory for each line: 2,000 lines in 200 stages, and twice and
//! four times as much. Nothing passes or fails here.

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/frontend/fake.rs"]
mod fake;
#[path = "../tests/frontend/render.rs"]
mod render;

use std::time::{Duration, Instant};

use fake::Fake;

/// How often each size is measured; the fastest counts.
const ROUNDS: u32 = 20;
/// How many lines a stage has.
const LINES: usize = 10;

/// Returns a file of `stages` stages that are all needed: each copies from the one before.
fn dockerfile(stages: usize) -> String {
    let mut text = String::new();
    for stage in 0..stages {
        let base = if stage % 3 == 2 { format!("s{}", stage - 1) } else { "alpine".to_owned() };
        text.push_str(&format!(
            "FROM {base} AS s{stage}\n\
             ARG VERSION{stage}=1.{stage}\n\
             ENV NAME{stage}=value-$VERSION{stage} SHARED=${{SHARED:-none}}\n\
             WORKDIR /work/{stage}\n\
             COPY src/{stage}/*.c src/{stage}/*.h ./\n\
             RUN --mount=type=cache,target=/cache make -j4 VERSION=$VERSION{stage} \\\n    install\n\
             LABEL stage={stage} version=\"${{VERSION{stage}%.*}}\"\n"
        ));
        match stage.checked_sub(1) {
            Some(before) => text.push_str(&format!("COPY --from=s{before} /out /in\n")),
            None => text.push_str("COPY first /in\n"),
        }
        text.push_str("CMD [\"run\", \"it\"]\n");
    }
    assert_eq!(text.lines().count(), stages * LINES);
    text
}

/// Returns the most memory that the process has ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn fastest(runtime: &tokio::runtime::Runtime, text: &str) -> Duration {
    let once = || {
        let fake = Fake::new(text);
        let start = Instant::now();
        let (result, _) = runtime.block_on(fake.run());
        let taken = start.elapsed();
        assert!(result.is_ok(), "the file is lowered");
        taken
    };
    (0..ROUNDS).map(|_| once()).min().unwrap_or_default()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let before = peak();
    for stages in [200, 400, 800] {
        let lines = stages * LINES;
        let taken = fastest(&runtime, &dockerfile(stages));
        let memory = peak() - before;
        println!(
            "{lines:5} lines in {stages} stages: {taken:?}, {} ns a line; at most {memory} KiB, {} bytes a line",
            taken.as_nanos() / lines as u128,
            memory * 1024 / lines as u64,
        );
    }
}
