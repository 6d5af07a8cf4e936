//! Our daemon beside the original, on the same cases: what is different is on the list, or a failure; and what
//! is on the list is different.
//!
//! The original is the distribution's `dockerd`. Where `integration/setup` could not get it, this says so and
//! shows nothing. What is compared is what the frontends make of the Dockerfiles, and whole builds with all that
//! the client shows and all that they leave; `integration/differ` does the same with any other daemon.

use std::fs;
use std::path::Path;

use integration::differ::{Case, Known, Level, Pair};
use integration::{Engine, Settings};

/// Cases of the corpus that are not compared: they ask hosts of the network, or what the original says of them is
/// chance, since it builds for two platforms and fails for both.
const APART: [&str; 6] = [
    "from: a digest",
    "from: an image that does not exist",
    "real_bases: programs for a system whose paths are written the other way round",
    "real_services: a solution in C# with several projects",
    "real_services: an API in Go with generated code, tests and a distroless image",
    "real_tools: one file for a matrix of platforms with contexts by name",
];

#[test]
fn what_differs_from_the_original_is_on_the_list() -> anyhow::Result<()> {
    let settings = Settings::read()?;
    if let Some(reason) = Engine::missing(&settings) {
        eprintln!("skipped: there is no dockerd to compare with: {reason}");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known = Known::read(&fs::read_to_string(root.join("docs/differences.md"))?)?;
    let built = Case::read_all(&Level::Building.cases(&root))?;
    let mut lowered = built.clone();
    // Options of these cases are words for the client, which is not asked here.
    lowered.retain(|case| case.options.is_empty());
    assert!(lowered.len() > 50, "the cases were not found");
    let corpus = Case::read_all(&Level::Lowering.cases(&root))?;
    let (apart, corpus): (Vec<_>, Vec<_>) =
        corpus.into_iter().partition(|case| APART.contains(&case.name().as_str()));
    assert_eq!(apart.len(), APART.len(), "a case is not there any more");
    lowered.extend(corpus);
    lowered.extend(Case::scans()?);
    let pair = Pair::with_engine(&settings)?;
    let (mut found, mut names) = (String::new(), Vec::new());
    for (level, cases) in [(Level::Lowering, &lowered), (Level::Building, &built)] {
        for finding in pair.compare(level, cases, &known)? {
            found.push_str(&finding.to_string());
        }
        names.extend(cases.iter().map(|case| level.name_of(case)));
    }
    assert!(found.is_empty(), "not in docs/differences.md:\n{found}");
    let gone = known.unseen(&names);
    assert!(gone.is_empty(), "in docs/differences.md, but not different:\n{}", gone.join("\n"));
    Ok(())
}
