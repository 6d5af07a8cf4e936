//! The base images: a static busybox, and a small Debian, made from what the distribution offers.
//!
//! ```text
//! <target>/integration-cache/
//!   lock          held while something is made
//!   layouts-1/    busybox, debian: OCI layouts, with one tag each
//!   seed-1/       the storage of a registry that has them
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{Program, Registry, Settings};

/// The image with a static busybox and nothing else: an index of two platforms.
pub const BUSYBOX: &str = "busybox";
/// The image with a minimal Debian (or what the machine's distribution is).
pub const DEBIAN: &str = "debian";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A download of a distribution may take long.
const DOWNLOAD: Duration = Duration::from_secs(1200);

/// Returns the storage of a registry with the base images, made if it is not there.
pub(crate) fn seed(settings: &Settings) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(&settings.cache)?;
    let lock = File::create(settings.cache.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive).context("cannot lock the cache of images")?;
    let seed = settings.cache.join("seed-1");
    if seed.is_dir() {
        return Ok(seed);
    }
    let registry = Registry::empty(TempDir::new_in(&settings.cache)?)?;
    for (name, make) in [
        (BUSYBOX, write_busybox as fn(&Layout, &Path) -> anyhow::Result<Value>),
        (DEBIAN, write_debian),
    ] {
        let layout = layout(settings, name, make)?;
        Program::new("skopeo")
            .args(["copy", "--all", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{}", registry.image(name)))
            .succeed()
            .with_context(|| format!("cannot put `{name}` into a registry"))?;
    }
    fs::rename(registry.storage(), &seed)?;
    Ok(seed)
}

/// Returns the OCI layout of an image, made if it is not there.
fn layout(
    settings: &Settings,
    name: &str,
    make: fn(&Layout, &Path) -> anyhow::Result<Value>,
) -> anyhow::Result<PathBuf> {
    let place = settings.cache.join("layouts-1").join(name);
    if place.is_dir() {
        return Ok(place);
    }
    let scratch = TempDir::new_in(&settings.cache)?;
    let layout = Layout { root: scratch.path().join("layout") };
    fs::create_dir_all(layout.root.join("blobs/sha256"))?;
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree)?;
    let mut top = make(&layout, &tree).with_context(|| format!("cannot make `{name}`"))?;
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    fs::write(layout.root.join("index.json"), index.to_string())?;
    fs::write(layout.root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::create_dir_all(settings.cache.join("layouts-1"))?;
    fs::rename(&layout.root, &place)?;
    Ok(place)
}

/// A directory of blobs with an index.
struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Adds a document, and returns its descriptor.
    fn document(&self, media_type: &str, value: &Value) -> anyhow::Result<Value> {
        let bytes = value.to_string();
        let digest = hex(&Sha256::digest(&bytes));
        fs::write(self.root.join("blobs/sha256").join(&digest), &bytes)?;
        Ok(
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}),
        )
    }

    /// Adds `tree` as a layer, and returns its descriptor and the digest of its archive.
    fn layer(&self, tree: &Path) -> anyhow::Result<(Value, String)> {
        let archive = self.root.join("archive");
        Program::new("tar")
            .args(["--numeric-owner", "--sort=name", "--mtime=@1700000000", "-C"])
            .arg(tree)
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .succeed()?;
        let packed = self.root.join("packed");
        let mut writer = GzEncoder::new(Hashed::new(File::create(&packed)?), Compression::fast());
        let mut reader = Hashed::new(File::open(&archive)?);
        io::copy(&mut reader, &mut writer)?;
        let blob = writer.finish()?;
        let (size, digest) = (blob.length, hex(&blob.hash.finalize()));
        fs::rename(packed, self.root.join("blobs/sha256").join(&digest))?;
        fs::remove_file(archive)?;
        let descriptor =
            json!({"mediaType": LAYER, "digest": format!("sha256:{digest}"), "size": size});
        Ok((descriptor, format!("sha256:{}", hex(&reader.hash.finalize()))))
    }

    /// Adds an image of one layer, and returns the descriptor of its manifest.
    fn image(&self, tree: &Path, architecture: &str, command: &str) -> anyhow::Result<Value> {
        let (layer, diff_id) = self.layer(tree)?;
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": {"Env": [PATH], "Cmd": [command], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "the harness"}],
        });
        let config = self.document(CONFIG, &config)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        });
        let mut descriptor = self.document(MANIFEST, &manifest)?;
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        Ok(descriptor)
    }
}

fn write_busybox(layout: &Layout, tree: &Path) -> anyhow::Result<Value> {
    for (name, mode) in
        [("bin", "755"), ("etc", "755"), ("root", "700"), ("tmp", "1777"), ("var", "755")]
    {
        Program::new("mkdir").args(["-m", mode]).arg(tree.join(name)).succeed()?;
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).context("no static busybox")?;
    for applet in Program::new("/bin/busybox").arg("--list").succeed()?.lines() {
        if applet != "busybox" {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet))?;
        }
    }
    fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n",
    )?;
    fs::write(tree.join("etc/group"), "root:x:0:\nguest:x:1000:\nstaff:x:50:guest\n")?;
    let mut manifests = Vec::new();
    for architecture in [native_architecture(), "s390x"] {
        fs::write(tree.join("etc/architecture"), architecture)?;
        manifests.push(layout.image(tree, architecture, "sh")?);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    layout.document(INDEX, &index)
}

fn write_debian(layout: &Layout, tree: &Path) -> anyhow::Result<Value> {
    let release = Release::of_this_machine()?;
    // The chroot's packages are not wanted on a disk that is thrown away to be safe before the next one is
    // unpacked.
    Program::new("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--components={}", release.components))
        .args([&release.codename, &tree.display().to_string(), &release.mirror])
        .patiently(DOWNLOAD)
        .succeed()?;
    for kept in ["var/cache/apt/archives", "var/lib/apt/lists", "var/log"] {
        for entry in fs::read_dir(tree.join(kept))?.flatten() {
            if entry.path().is_file() {
                fs::remove_file(entry.path())?;
            }
        }
    }
    layout.image(tree, native_architecture(), "bash")
}

/// The distribution of this machine, as its package manager knows it.
struct Release {
    codename: String,
    mirror: String,
    components: &'static str,
}

impl Release {
    fn of_this_machine() -> anyhow::Result<Self> {
        let text = Program::new("apt-get")
            .args(["indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)"])
            .arg("Created-By: Packages")
            .succeed()?;
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?, words.next()?))
        });
        let mut first = lines.filter(|(origin, codename, _)| {
            ["Debian", "Ubuntu"].contains(origin) && !codename.contains('-')
        });
        let (origin, codename, mirror) =
            first.next().context("the package manager names no mirror: run `apt-get update`")?;
        Ok(Self {
            codename: codename.to_owned(),
            mirror: mirror.trim_end_matches('/').to_owned(),
            components: if origin == "Ubuntu" { "main,universe" } else { "main" },
        })
    }
}

fn native_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Bytes on their way, counted and hashed.
struct Hashed<T> {
    inner: T,
    hash: Sha256,
    length: u64,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), length: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.note(&buffer[..count]);
        Ok(count)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.note(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    #[test]
    fn base_images_are_images() {
        let settings = Settings::read().unwrap();
        let registry = Registry::start(&settings).unwrap();
        let busybox = Image::read(&format!("docker://{}", registry.image(BUSYBOX))).unwrap();
        assert_eq!(busybox.top["manifests"].as_array().unwrap().len(), 2);
        assert_eq!(busybox.text("etc/architecture").unwrap(), native_architecture());
        assert_eq!(busybox.file("tmp").unwrap().mode & 0o7777, 0o1777);
        let debian = Image::read(&format!("docker://{}", registry.image(DEBIAN))).unwrap();
        assert!(debian.file("usr/bin/apt-get").is_some());
        assert_eq!(debian.file("bin").and_then(|bin| bin.link.as_deref()), Some("usr/bin"));
    }
}
