//! Our own frontend as an image, made as its Dockerfile says of the program that `frontend/image/build`
//! compiled.

use anyhow::Context as _;

use crate::{Buildx, Project, Registry, Settings};

/// The name of the image in a registry.
pub const FRONTEND: &str = "larder-frontend:1";

/// Makes the image with a client, and pushes it; returns its name.
///
/// # Errors
/// Fails if the program was not compiled, or its image cannot be built.
pub fn push_frontend(
    settings: &Settings,
    client: &Buildx,
    registry: &Registry,
) -> anyhow::Result<String> {
    let program = settings.frontend()?;
    let folder = program.parent().context("a program is in a folder")?;
    let project = Project::new(include_str!("../../frontend/image/Dockerfile"))?;
    let image = registry.image(FRONTEND);
    client
        .build(&project)
        .args(["--provenance=false", "--build-context"])
        .arg(format!("program={}", folder.display()))
        .push(&image)
        .succeed()?;
    Ok(image)
}
