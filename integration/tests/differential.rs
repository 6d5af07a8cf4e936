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
