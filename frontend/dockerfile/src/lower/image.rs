//! The configuration of the image that a stage makes.

use oci::{History, ImageConfig, Platform, Time};

/// What `PATH` is where an image does not say.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const COMMENT: &str = "buildkit.dockerfile.v0";

/// Returns the configuration of an image from nothing.
pub(super) fn empty(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig::for_platform(platform);
    image.rootfs.kind = "layers".to_owned();
    image.config.working_dir = "/".to_owned();
    if platform.os != "windows" {
        image.config.env = vec![format!("PATH={DEFAULT_PATH}")];
    }
    image
}

/// Sets a variable; one that exists keeps its place.
pub(super) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = [name, "=", value].concat();
    let same = |old: &&mut String| old.split('=').next() == Some(name);
    match env.iter_mut().find(same) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// Whether an instruction made a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// It did.
    Made,
    /// It changed the configuration alone.
    None,
}

/// Adds a line to the history.
pub(super) fn record(
    image: &mut ImageConfig,
    created_by: impl Into<String>,
    layer: Layer,
    created: Option<Time>,
) {
    image.history.push(History {
        created,
        created_by: created_by.into(),
        comment: COMMENT.to_owned(),
        empty_layer: layer == Layer::None,
        ..History::default()
    });
}

/// Returns `words` as the shell of the image runs them.
pub(super) fn with_shell(image: &ImageConfig, words: &[String]) -> Vec<String> {
    let mut line = match (image.config.shell.as_slice(), image.os.as_str()) {
        ([], "windows") => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
        ([], _) => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        (shell, _) => shell.to_vec(),
    };
    line.push(words.join(" "));
    line
}
