//! `differ`: puts the cases to our daemon and to another one, and prints what each makes otherwise.
//!
//! `integration/differ` builds and calls it. It ends with 0 if nothing differs but what `docs/differences.md`
//! lists, with 1 if something does, with 2 for a wrong call.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use integration::differ::{Case, Known, Level, Pair};
use integration::{Engine, Settings};

const USAGE: &str = "usage: integration/differ [--against ADDR] [--level lower|build] [--case TEXT]

Builds each case on our daemon and on another one, and prints the differences.
  --against ADDR   the other one, such as unix:///run/buildkit/buildkitd.sock, on this machine;
                   otherwise the distribution's dockerd that integration/setup unpacked
  --level LEVEL    only what a frontend makes of a Dockerfile (lower), or whole builds (build)
  --case TEXT      only the cases with this in their name";

/// What was asked for.
#[derive(Debug, Default)]
struct Call {
    against: Option<String>,
    level: Option<String>,
    case: String,
}

fn main() -> anyhow::Result<ExitCode> {
    let Some(call) = Call::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    let levels: &[Level] = match call.level.as_deref() {
        None => &[Level::Lowering, Level::Building],
        Some("lower") => &[Level::Lowering],
        Some("build") => &[Level::Building],
        Some(other) => {
            eprintln!("`{other}` is no level\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let settings = Settings::read()?;
    let root = workspace()?;
    let known = std::fs::read_to_string(root.join("docs/differences.md"))?;
    let known = Known::read(&known)?;
    let pair = match &call.against {
        Some(address) => Pair::against(&settings, address)?,
        None => {
            if let Some(reason) = Engine::missing(&settings) {
                anyhow::bail!("there is no dockerd to compare with: {reason}");
            }
            Pair::with_engine(&settings)?
        }
    };
    let mut count = 0;
    for level in levels {
        let mut cases = Case::read_all(&level.cases(&root))?;
        cases.retain(|case| case.name().contains(&call.case));
        let findings = pair.compare(*level, &cases, &known)?;
        findings.iter().for_each(|finding| print!("{finding}"));
        println!("{} cases, {} differ", cases.len(), findings.len());
        count += findings.len();
    }
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Call {
    fn read(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut call = Self::default();
        while let Some(word) = words.next() {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), value.to_owned()),
                None => (word, words.next()?),
            };
            match flag.as_str() {
                "--against" => call.against = Some(value),
                "--level" => call.level = Some(value),
                "--case" => call.case = value,
                _ => return None,
            }
        }
        Some(call)
    }
}

fn workspace() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("the harness is a folder of the workspace")?.to_owned())
}
