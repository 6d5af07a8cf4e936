//! The language, end to end: what each instruction leaves in an image, what each mount gives a step, and
//! what is said about a wrong line.

mod builds;
mod images;
mod steps;

use integration::{Build, Image, Project, World};

/// Builds the project of a Dockerfile and its files, pushes it, and returns the image.
fn image(world: &World, dockerfile: &str, files: &[(&str, &str)]) -> anyhow::Result<Image> {
    let project = project(world, dockerfile, files)?;
    let name = world.registry.image("result:latest");
    world.build(&project).push(&name).succeed()?;
    Image::read(&format!("docker://{name}"))
}

fn project(world: &World, dockerfile: &str, files: &[(&str, &str)]) -> anyhow::Result<Project> {
    let project = world.project(dockerfile)?;
    for (path, contents) in files {
        project.write(path, contents)?;
    }
    Ok(project)
}

/// Builds a Dockerfile alone, which must succeed.
fn build(world: &World, dockerfile: &str) -> anyhow::Result<Build> {
    world.build(&world.project(dockerfile)?).succeed()
}

/// Builds a Dockerfile alone, which must fail.
fn fails(world: &World, dockerfile: &str) -> anyhow::Result<Build> {
    world.build(&world.project(dockerfile)?).fail()
}
