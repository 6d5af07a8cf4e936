//! Rules about cache mounts: caches that are shared unsafely, never filled, or never used.

mod tools;

use std::collections::BTreeMap;

use self::tools::{Tool, tools_in, tools_of};
use super::{Rule, rules};
use crate::instruction::Sharing;
use crate::syntax::Lines;

/// A cache mount of a command, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheUse {
    /// The value of the flag, as written.
    pub(crate) text: String,
    /// Which cache.
    pub(crate) id: String,
    /// Where it appears, absolute.
    pub(crate) target: String,
    /// True if the command may not write to it.
    pub(crate) read_only: bool,
    /// What has to be the same everywhere.
    pub(crate) options: CacheOptions,
}

/// The options of a cache that have to be the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheOptions {
    /// How concurrent commands share it.
    pub(crate) sharing: Option<Sharing>,
    /// The owner, the group and the mode of its root.
    pub(crate) owner: (Option<u32>, Option<u32>, Option<u32>),
    /// What it is seeded with.
    pub(crate) seed: (String, String),
}

/// A command and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedCommand<'a> {
    /// Its cache mounts.
    pub(crate) caches: &'a [CacheUse],
    /// Its text.
    pub(crate) text: &'a str,
    /// The user that runs it; empty for the superuser.
    pub(crate) user: &'a str,
    /// Whether the variable `HOME` is set for it.
    pub(crate) has_home: bool,
    /// Whether several platforms are built.
    pub(crate) multi_platform: bool,
    /// Where it stands.
    pub(crate) lines: Lines,
}

/// What the commands before did, in a stage and those it is made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheHistory {
    /// Whether apt keeps what it downloads.
    apt_keeps: bool,
    /// The tools that had a cache, and where.
    cached: BTreeMap<&'static str, String>,
}

/// The caches of the whole file, with the options they were first seen with.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownCaches(BTreeMap<String, (CacheOptions, Lines)>);

/// Something a rule found.
type Finding = (&'static Rule, String);

/// Looks at one command.
pub(crate) fn check(
    command: CachedCommand<'_>,
    history: &mut CacheHistory,
    known: &mut KnownCaches,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for cache in command.caches {
        let tools: Vec<_> = tools_of(&cache.target).collect();
        found.extend(unused_target(cache, command));
        found.extend(unsafe_sharing(cache, &tools));
        found.extend(defeated(cache, command, &tools));
        found.extend(known.differing(cache, command.lines));
        found.extend(mixed_platforms(cache, command, &tools));
    }
    found.extend(cleaned_by_apt(command, history));
    found.extend(not_mounted(command, history));
    found
}

/// A home directory that is not expanded, or that of another user.
fn unused_target(cache: &CacheUse, command: CachedCommand<'_>) -> Option<Finding> {
    let written = cache.text.split(',').find_map(|field| {
        let (key, value) = field.split_once('=')?;
        matches!(key, "target" | "dst" | "destination").then_some(value)
    });
    let written = written.unwrap_or_default();
    let home = written.contains("$HOME") || written.contains("${HOME}");
    let reason = if written.starts_with('~') {
        "`~` is not expanded".to_owned()
    } else if home && !command.has_home {
        "`$HOME` is not set in the Dockerfile".to_owned()
    } else {
        let user = command.user.split(':').next().unwrap_or_default();
        let is_root = matches!(user, "" | "root" | "0");
        if is_root || !cache.target.starts_with("/root/") {
            return None;
        }
        format!("the command runs as `{user}`, which has another home directory")
    };
    let text = format!("Cache mounted at '{}' will not be used: {reason}", cache.target);
    Some((&rules::CACHE_TARGET_UNUSED, text))
}

fn unsafe_sharing(cache: &CacheUse, tools: &[&Tool]) -> Option<Finding> {
    if cache.read_only || !matches!(cache.options.sharing, None | Some(Sharing::Shared)) {
        return None;
    }
    let tool = tools.iter().find(|tool| !tool.locks)?;
    let text = format!(
        "Cache of {} at '{}' should have sharing=locked or sharing=private: {} does not lock it",
        tool.name, cache.target, tool.name
    );
    Some((&rules::CACHE_SHARING_UNSAFE, text))
}

fn defeated(cache: &CacheUse, command: CachedCommand<'_>, tools: &[&Tool]) -> Option<Finding> {
    let by_tool = tools
        .iter()
        .filter(|tool| tool.is_run_by(command.text))
        .find_map(|tool| tool.defeat_in(command.text));
    let removal = || removal_of(&cache.target, command.text);
    let defeat = by_tool.map(str::to_owned).or_else(removal)?;
    let text = format!("Cache at '{}' is defeated by '{defeat}' in the same command", cache.target);
    Some((&rules::CACHE_DEFEATED, text))
}

/// Returns `rm -rf …` of the cache's directory or what is in it.
fn removal_of(target: &str, text: &str) -> Option<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let starts = words.iter().enumerate().filter(|(_, word)| **word == "rm");
    for (start, _) in starts {
        let arguments = words[start + 1..].iter();
        let end = |word: &&&str| !matches!(**word, "&&" | "||" | ";" | "|");
        for word in arguments.take_while(end) {
            let path = word.trim_end_matches([';', '*', '/']);
            let inside =
                path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest == "/lists");
            if path.starts_with('/') && inside && !word.starts_with('-') {
                return Some(format!("rm {}", word.trim_end_matches(';')));
            }
        }
    }
    None
}

impl KnownCaches {
    fn differing(&mut self, cache: &CacheUse, lines: Lines) -> Option<Finding> {
        let Some((options, first)) = self.0.get(&cache.id) else {
            self.0.insert(cache.id.clone(), (cache.options.clone(), lines));
            return None;
        };
        if *options == cache.options {
            return None;
        }
        let text = format!(
            "Cache '{}' is mounted with other options than on line {}",
            cache.id, first.first
        );
        Some((&rules::CACHE_OPTIONS_DIFFER, text))
    }
}

fn mixed_platforms(
    cache: &CacheUse,
    command: CachedCommand<'_>,
    tools: &[&Tool],
) -> Option<Finding> {
    if !command.multi_platform || cache.text.contains("TARGET") {
        return None;
    }
    // Caches of what was downloaded as source are the same for every platform.
    if tools.iter().any(|tool| tool.is_neutral) {
        return None;
    }
    let text = format!(
        "Cache '{}' is the same for every platform: its id should have $TARGETPLATFORM in it",
        cache.id
    );
    Some((&rules::CACHE_PLATFORM_MIXED, text))
}

fn cleaned_by_apt(command: CachedCommand<'_>, history: &mut CacheHistory) -> Option<Finding> {
    let keeps = ["docker-clean", "Keep-Downloaded-Packages", "keep-downloads"];
    history.apt_keeps |= keeps.iter().any(|word| command.text.contains(word));
    let cache = command.caches.iter().find(|cache| cache.target == "/var/cache/apt")?;
    let installs = tools_of(&cache.target).any(|tool| tool.is_run_by(command.text));
    if history.apt_keeps || !installs {
        return None;
    }
    let text =
        "Cache at '/var/cache/apt' stays empty unless /etc/apt/apt.conf.d/docker-clean is removed";
    Some((&rules::CACHE_CLEANED_BY_APT, text.to_owned()))
}

fn not_mounted(command: CachedCommand<'_>, history: &mut CacheHistory) -> Option<Finding> {
    let mut found = None;
    for tool in tools_in(command.text) {
        let cache = command.caches.iter().find(|cache| tool.uses(&cache.target));
        match (cache, history.cached.get(tool.name)) {
            (Some(cache), _) => {
                history.cached.insert(tool.name, cache.target.clone());
            }
            (None, Some(target)) if found.is_none() => {
                let text = format!(
                    "Command runs {} without the cache at '{target}' that an earlier command filled",
                    tool.name
                );
                found = Some((&rules::CACHE_NOT_MOUNTED, text));
            }
            (None, _) => {}
        }
    }
    found
}

impl Tool {
    fn defeat_in(&self, text: &str) -> Option<&'static str> {
        self.defeats.iter().copied().find(|defeat| text.contains(defeat))
    }
}

#[cfg(test)]
mod tests;
