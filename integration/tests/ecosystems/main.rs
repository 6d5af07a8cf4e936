//! Package managers as people use them: once cold; then, after a change, warm and with the step's network
//! cut; then from sixteen builds at once, cut off as well. A build without network passes only if the cache
//! really served.

mod apt;
mod cargo;
mod go;
mod python;
mod tool;

use std::time::Duration;

use integration::house::House;
use integration::{Build, Project};

/// How many builds use one cache at once.
const BUILDS: usize = 16;
/// The machine's certificates, for a step that fetches over TLS.
const CA: &str = "--mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt";
/// Where apt keeps what it downloads, and what there is to download. It does not lock what it shares.
const APT: &str = "--mount=type=cache,id=apt,target=/var/cache/apt,sharing=locked \
                   --mount=type=cache,id=lists,target=/var/lib/apt/lists,sharing=locked";
/// Installs packages whose files are not wanted on a disk before the next one is unpacked.
const INSTALL: &str =
    "apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io";
/// Downloads take what they take.
const DOWNLOAD: Duration = Duration::from_secs(1200);

/// Returns the beginning of a Dockerfile: a stage `tools` that has these packages of the distribution.
fn tools(packages: &str) -> String {
    format!(
        "FROM {{debian}} AS tools\n\
         ENV DEBIAN_FRONTEND=noninteractive PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore \
         PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
         NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt\n\
         RUN {APT} apt-get update -qq && {INSTALL} {packages}\n"
    )
}

/// Builds a project to its successful end.
fn build(house: &House, project: &Project) -> anyhow::Result<Build> {
    house.world.build(project).certificates().patiently(DOWNLOAD).succeed()
}
