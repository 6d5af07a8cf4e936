//! Which image of several a platform runs, and which it runs best.

use crate::{Descriptor, Platform};

/// The last minor versions of ARMv8 and ARMv9, and how far each v9 is ahead of the v8 it contains.
const LAST_ARM64_V8: u8 = 9;
const LAST_ARM64_V9: u8 = 7;
const V9_IS_AHEAD: u8 = 5;

/// Orders platforms by how well a given one runs them.
///
/// A platform runs itself best, then older variants of its architecture, newest first, then the
/// 32-bit architecture that it contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformMatcher {
    wanted: Platform,
    /// Architecture and variant, best first, normalised.
    runnable: Vec<(String, String)>,
}

impl Platform {
    /// Returns what tells which images this platform runs.
    pub fn matcher(&self) -> PlatformMatcher {
        let wanted = self.clone().normalized();
        let runnable = runnable(&wanted.architecture, &wanted.variant);
        PlatformMatcher { wanted, runnable }
    }

    /// Returns true if `other` is this platform, in any spelling.
    pub fn matches(&self, other: &Self) -> bool {
        let (wanted, other) = (self.clone().normalized(), other.clone().normalized());
        wanted.architecture == other.architecture
            && wanted.variant == other.variant
            && system_matches(&wanted, &other)
    }
}

impl PlatformMatcher {
    /// Returns how well `platform` is run: 0 is best; none if it is not run at all.
    pub fn rank(&self, platform: &Platform) -> Option<usize> {
        let platform = platform.clone().normalized();
        if !system_matches(&self.wanted, &platform) {
            return None;
        }
        self.runnable.iter().position(|(architecture, variant)| {
            *architecture == platform.architecture && *variant == platform.variant
        })
    }

    /// Returns the descriptors of an index that may be for the platform, best first. Those that name no
    /// platform come last: only their config can tell.
    pub fn candidates<'a>(&self, manifests: &'a [Descriptor]) -> Vec<&'a Descriptor> {
        let mut ranked: Vec<(usize, &Descriptor)> = manifests
            .iter()
            .filter_map(|manifest| match &manifest.platform {
                Some(platform) => self.rank(platform).map(|rank| (rank, manifest)),
                None => Some((usize::MAX, manifest)),
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, manifest)| manifest).collect()
    }

    /// Returns the descriptor of an index that the platform runs best.
    pub fn best<'a>(&self, manifests: &'a [Descriptor]) -> Option<&'a Descriptor> {
        self.candidates(manifests).into_iter().next()
    }
}

fn system_matches(wanted: &Platform, offered: &Platform) -> bool {
    let ignored = |feature: &String| wanted.os == "windows" && feature == "win32k";
    wanted.os == offered.os
        && (wanted.os != "windows" || build_matches(&wanted.os_version, &offered.os_version))
        && offered
            .os_features
            .iter()
            .all(|feature| ignored(feature) || wanted.os_features.contains(feature))
}

/// Compares `major.minor.build`; either may be unknown.
fn build_matches(wanted: &str, offered: &str) -> bool {
    let build =
        |version: &str| version.splitn(4, '.').take(3).map(str::to_owned).collect::<Vec<_>>();
    wanted.is_empty() || offered.is_empty() || build(wanted) == build(offered)
}

fn runnable(architecture: &str, variant: &str) -> Vec<(String, String)> {
    let number = variant.strip_prefix('v').and_then(|number| number.parse::<u8>().ok());
    let mut found = vec![(architecture.to_owned(), variant.to_owned())];
    let mut add = |architecture: &str, variant: String| {
        found.push((architecture.to_owned(), variant));
    };
    match (architecture, number) {
        ("amd64", number) => {
            for older in (2..number.unwrap_or(1)).rev() {
                add("amd64", format!("v{older}"));
            }
            if number.is_some_and(|number| number > 1) {
                add("amd64", String::new());
            }
            add("386", String::new());
        }
        ("arm", Some(number)) => {
            (5..number).rev().for_each(|older| add("arm", format!("v{older}")))
        }
        ("arm64", _) => {
            let Some((major, minor)) = arm64_version(variant) else { return Vec::new() };
            if major == 9 {
                (0..minor).rev().for_each(|older| add("arm64", arm64_variant(9, older)));
                let v8 = (minor + V9_IS_AHEAD).min(LAST_ARM64_V8);
                (0..=v8).rev().for_each(|older| add("arm64", arm64_variant(8, older)));
            } else {
                (0..minor).rev().for_each(|older| add("arm64", arm64_variant(8, older)));
            }
            (5..=8).rev().for_each(|older| add("arm", format!("v{older}")));
        }
        _ => {}
    }
    found
}

/// Reads the variant of a 64-bit ARM; none if there is no such processor.
fn arm64_version(variant: &str) -> Option<(u8, u8)> {
    let (major, minor) = match variant {
        "" => (8, 0),
        other => {
            let other = other.strip_prefix('v')?;
            let (major, minor) = other.split_once('.').unwrap_or((other, "0"));
            (major.parse().ok()?, minor.parse().ok()?)
        }
    };
    match major {
        8 => (minor <= LAST_ARM64_V8).then_some((major, minor)),
        9 => (minor <= LAST_ARM64_V9).then_some((major, minor)),
        _ => None,
    }
}

/// Writes a variant in its normalised spelling.
fn arm64_variant(major: u8, minor: u8) -> String {
    match (major, minor) {
        (8, 0) => String::new(),
        (major, 0) => format!("v{major}"),
        (major, minor) => format!("v{major}.{minor}"),
    }
}
