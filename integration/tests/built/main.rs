//! Small Dockerfiles, built by the real client: what comes out, to the mode of a file and the line of the
//! history, is kept as one snapshot a topic.
//!
//! A topic is a text file. A case begins with `=== title`, after which options of the client may follow, parted
//! by ` | `; then its Dockerfile, and the files beside it, each after a line `--- path`, `--- path mode`,
//! `--- path -> target` or `--- path base64`. What stands before the first case are files that all cases of the
//! topic have. `{busybox}` is the base image, `{here}` the project's directory.

mod case;
mod shown;

use anyhow::Context as _;
use integration::World;
use tempfile::TempDir;

use case::{Case, Place};

/// Builds each case of a topic, one after the other on one daemon, and returns what became of them.
fn build_all(topic: &str) -> anyhow::Result<String> {
    let world = World::start()?;
    let mut text = String::new();
    for case in Case::read_all(topic) {
        text.push_str(&format!("=== {}\n", case.title));
        let shown = build(&world, &case).with_context(|| case.title.clone())?;
        text.push_str(&shown);
    }
    Ok(text)
}

fn build(world: &World, case: &Case) -> anyhow::Result<String> {
    let project = world.project(&case.dockerfile)?;
    for (path, place) in &case.places {
        match place {
            Place::File { mode, contents } => {
                project.write(path, contents)?;
                project.chmod(path, *mode)?;
            }
            Place::Directory { mode } => {
                std::fs::create_dir_all(project.path(path))?;
                project.chmod(path, *mode)?;
            }
            Place::Link { target } => project.link(path, target)?,
        }
    }
    let here = project.root().display().to_string();
    let fill = |option: &String| world.fill(option).replace("{here}", &here);
    let out = TempDir::new()?;
    let archive = out.path().join("image.tar");
    let build = world
        .build(&project)
        .args(case.options.iter().map(fill))
        .args(["--provenance=false", "--output"])
        .arg(format!("type=oci,dest={}{}", archive.display(), case.output))
        .run()?;
    if build.status.success() {
        shown::image(&archive, case)
    } else {
        Ok(shown::failure(&build.output, &world.registry.image("")))
    }
}

macro_rules! topics {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            let shown = build_all(include_str!(concat!(stringify!($name), ".txt")))?;
            insta::assert_snapshot!(stringify!($name), shown);
            Ok(())
        })*
    };
}

topics!(configurations, copies, failures, steps, stages);
