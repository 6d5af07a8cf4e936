//! What a running program says, line by line: kept, and waited for.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The lines of one or more streams, in the order in which they came.
#[derive(Clone, Default)]
pub struct Lines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// How many streams are still open.
    open: usize,
    file: Option<File>,
}

impl Lines {
    /// Returns no lines yet; each that comes is also written to `file`.
    pub fn kept_in(file: File) -> Self {
        let lines = Self::default();
        lines.with(|state| state.file = Some(file));
        lines
    }

    /// Reads `stream` to its end on a thread of its own.
    pub fn follow(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        self.with(|state| state.open += 1);
        let lines = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line);
                lines.push(text.trim_end_matches(['\n', '\r']).to_owned());
                line.clear();
            }
            lines.with(|state| state.open -= 1);
            lines.shared.changed.notify_all();
        })
    }

    /// Waits until one of the lines is as wanted, and returns it; none if the streams ended before, or
    /// `limit` passed.
    pub fn wait_for(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + limit;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if state.open == 0 || left.is_zero() {
                return None;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a line comes, the streams end, or `limit` passes.
    pub fn wait_for_more(&self, limit: Duration) {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.lines.len();
        let same = |state: &mut State| state.lines.len() == count && state.open > 0;
        let _ = self.shared.changed.wait_timeout_while(state, limit, same);
    }

    /// Waits until all streams have ended, or `limit` passes.
    pub fn wait_for_end(&self, limit: Duration) {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |state: &mut State| state.open > 0;
        let _ = self.shared.changed.wait_timeout_while(state, limit, open);
    }

    /// Returns what has come so far.
    pub fn all(&self) -> Vec<String> {
        self.with(|state| state.lines.clone())
    }

    /// Returns what has come so far as one text.
    pub fn text(&self) -> String {
        self.with(|state| state.lines.join("\n"))
    }

    fn push(&self, line: String) {
        self.with(|state| {
            if let Some(file) = &mut state.file {
                // The file is for people who look at a failure; the lines here are what tests judge.
                let _ = writeln!(file, "{line}");
            }
            state.lines.push(line);
        });
        self.shared.changed.notify_all();
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}
