//! Our frontend as the image of a `# syntax=` line on the original BuildKit, which knows nothing of us: it makes
//! what our daemon makes.
//!
//! The original is the distribution's `dockerd`. Where `integration/setup` could not get it, this says so and
//! shows nothing.

use std::fs;
use std::path::Path;

use integration::differ::{Case, Difference, Finding, Known, Level, Pair};
use integration::{BUSYBOX, Engine, FRONTEND, Project, Settings};
use tempfile::TempDir;

/// Topics of which whole images are built. The others are about clients, and what they show.
const BUILT: [&str; 6] = ["config", "copy", "errors", "mounts", "run", "stages"];

/// The original looks at what a build may do when it is built, and here nothing is; ours looks at the graph.
const ASKED_WHEN_BUILT: &str = "an entitlement that is not given";

/// Returns what was found, for people.
fn shown(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect()
}

/// Returns whether a difference is in what a build leaves: how it ends, and its images.
fn is_left(difference: &Difference) -> bool {
    let (Difference::Theirs(line) | Difference::Ours(line)) = difference;
    ["exit", "index", "output", "file"].iter().any(|place| line.starts_with(place))
}

/// Returns whether a case is nothing to compare: of another file than `Dockerfile` the frontend is not ours here,
/// provenance says by whom an image was built, and a wrong name of who makes lists is refused before a frontend
/// is asked.
fn is_other(case: &Case) -> bool {
    let other = |option: &String| {
        ["--file", "--provenance", "--attest"].iter().any(|o| option.starts_with(o))
    };
    case.options.iter().any(other)
}

#[test]
fn our_image_makes_the_same_on_the_original() -> anyhow::Result<()> {
    let settings = Settings::read()?;
    if let Some(reason) = Engine::missing(&settings) {
        eprintln!("skipped: there is no dockerd to build on: {reason}");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known = Known::read(&fs::read_to_string(root.join("docs/differences.md"))?)?;
    let cases = Case::read_all(&Level::Building.cases(&root))?;
    let pair = Pair::with_engine(&settings)?.by_our_frontend(&settings)?;

    // Options of these cases are words for the client, which is not asked here.
    let mut lowered = cases.clone();
    lowered.retain(|case| case.options.is_empty() && case.title != ASKED_WHEN_BUILT);
    assert!(lowered.len() > 50, "the cases were not found");
    // What is scanned is for the frontend to say. That it is done needs a network of the scanner's own, which this
    // `dockerd` is not given.
    lowered.extend(Case::scans()?);
    let different = pair.compare(Level::Lowering, &lowered, &known)?;
    assert!(different.is_empty(), "other graphs, images or errors:\n{}", shown(&different));

    let mut built = cases;
    built.retain(|case| BUILT.contains(&&*case.topic) && !is_other(case));
    assert!(built.len() > 50, "the cases were not found");
    let mut different = pair.compare(Level::Building, &built, &known)?;
    different.iter_mut().for_each(|finding| finding.differences.retain(is_left));
    different.retain(|finding| !finding.differences.is_empty());
    assert!(different.is_empty(), "other results:\n{}", shown(&different));
    named_in_the_first_line(&pair)
}

/// Builds with a `# syntax=` line, which the original's own frontend finds.
fn named_in_the_first_line(pair: &Pair) -> anyhow::Result<()> {
    let (image, base) = (pair.registry().image(FRONTEND), pair.registry().image(BUSYBOX));
    let project = |lines: &str| Project::new(&format!("# syntax={image}\nFROM {base}\n{lines}"));
    let out = TempDir::new()?;
    let run = project("COPY <<END /said\nby us\nEND\nRUN cp /said /again\n")?;
    let built = pair.build_there(&run).into_directory(out.path()).succeed()?;
    built.step("resolve image config for docker-image://")?;
    assert_eq!(fs::read_to_string(out.path().join("again"))?, "by us\n");
    // What only our frontend says.
    let linted = project("RUN --mount=type=cache,target=/var/cache/apk apk add x\n")?;
    let checked = pair.build_there(&linted).arg("--check").run()?;
    assert!(checked.stdout.contains("CacheSharingUnsafe"), "{}", checked.stdout);
    Ok(())
}
