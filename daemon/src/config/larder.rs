//! The tables `[larder]`: what `buildkitd` does not have.
//!
//! ```toml
//! [larder]
//! drain-timeout = "10m"               # how long running builds may take when the daemon is to stop
//! metrics-address = "127.0.0.1:9090"  # on this machine only
//!
//! [larder.volumes]                    # what holds for every cache volume
//! on-failure = "keep"
//! reserve = "1GB"                     # what is to stay free on the volumes' disk; 16 MiB if not said
//!
//! [[larder.volumes.policy]]           # what holds for some; of two that match, the later decides
//! id = "go-*"
//! on-failure = "discard"
//! quota = "5GB"
//! ```

use std::net::SocketAddr;

use volumes::{PolicyPatch, PolicyRule, Quota, VolumeSettings};

use super::quantity::{Amount, duration_of};
use super::section::Section;
use super::{Config, ConfigError};

pub(super) fn read(section: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(timeout) = section.scalar("drain-timeout", duration_of)? {
        config.drain_timeout = timeout;
    }
    if let Some(address) = section.parsed::<SocketAddr>("metrics-address")? {
        let local = address.ip().is_loopback();
        let checked = if local { Ok(address) } else { Err("it must be an address of loopback") };
        config.metrics = Some(section.convert("metrics-address", || checked)?);
    }
    if let Some(volumes) = section.section("volumes")? {
        read_volumes(volumes, &mut config.volumes)?;
    }
    section.finish()
}

fn read_volumes(section: Section<'_>, volumes: &mut VolumeSettings) -> Result<(), ConfigError> {
    volumes.defaults = read_policy(&section)?;
    if let Some(bytes) = read_bytes(&section, "reserve")? {
        volumes.reserve.bytes = bytes;
    }
    volumes.reserve.inodes = section.number("reserve-inodes")?.unwrap_or(volumes.reserve.inodes);
    volumes.depth = section.number("depth")?.unwrap_or(volumes.depth);
    volumes.most_depth = section.number("most-depth")?.unwrap_or(volumes.most_depth);
    for rule in section.list("policy")? {
        let id = rule.text("id")?.ok_or("it says for which volumes the policy is: `id = \"go-*\"`");
        let (namespace, policy) = (rule.text("namespace")?, read_policy(&rule)?);
        rule.finish()?;
        volumes.rules.push(PolicyRule { namespace, pattern: rule.convert("id", || id)?, policy });
    }
    section.finish()
}

fn read_policy(section: &Section<'_>) -> Result<PolicyPatch, ConfigError> {
    let bytes = read_bytes(section, "quota")?;
    let inodes = section.number("quota-inodes")?;
    Ok(PolicyPatch {
        merge: section.word("merge")?,
        on_failure: section.word("on-failure")?,
        on_interrupt: section.word("on-interrupt")?,
        no_cache: section.word("no-cache")?,
        quota: (bytes.is_some() || inodes.is_some()).then_some(Quota { bytes, inodes }),
        floor: read_bytes(section, "floor")?,
        expiry: section.scalar("expiry", duration_of)?,
        pinned: section.boolean("pinned")?,
        wait_limit: section.scalar("wait-limit", duration_of)?,
        driver: section.word("driver")?,
        versions: section.number("versions")?,
    })
}

/// Reads an amount that cannot be a share.
fn read_bytes(section: &Section<'_>, key: &'static str) -> Result<Option<u64>, ConfigError> {
    let Some(amount) = section.scalar(key, Amount::from_scalar)? else { return Ok(None) };
    let bytes = match amount {
        Amount::Bytes(bytes) => Ok(bytes),
        Amount::Percent(_) => Err("a share of the disk cannot be said here: write a size"),
    };
    section.convert(key, || bytes).map(Some)
}
