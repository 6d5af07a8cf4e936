//! What is decided about one volume.

use volumes::{Driver, Merge, NoCache, PolicyPatch, Quota, Salvage};

use crate::arguments::{self as words, Format, PolicyArguments};
use crate::failure::Failure;
use crate::output::{self, PolicyDocument};
use crate::place::Place;
use crate::wanted::Wanted;

/// Decides what the flags say, and shows what holds for the volume then.
pub(super) async fn policy(
    place: &dyn Place,
    arguments: &PolicyArguments,
    format: Format,
) -> Result<(), Failure> {
    let wanted = Wanted { namespace: &arguments.volume.namespace, text: &arguments.volume.volume };
    let record = wanted
        .with(place, async |key| {
            let record = place.inspect(key).await?;
            let decided = decide(&record.decided, arguments);
            if decided == record.decided {
                return Ok(record);
            }
            place.set_policy(key, decided).await?;
            place.inspect(key).await
        })
        .await?;
    let document = PolicyDocument::of(&record.policy);
    match format {
        Format::Json => output::json(&document),
        Format::Table => output::lines(output::policy(&record.policy)),
    }
}

/// Returns the decisions so far with those of the flags.
fn decide(before: &PolicyPatch, flags: &PolicyArguments) -> PolicyPatch {
    let mut decided = if flags.clear {
        PolicyPatch { pinned: before.pinned, ..PolicyPatch::default() }
    } else {
        before.clone()
    };
    let salvage = |word: words::Salvage| match word {
        words::Salvage::Keep => Salvage::Keep,
        words::Salvage::Discard => Salvage::Discard,
    };
    let merge = flags.merge.map(|word| match word {
        words::Merge::LastWriter => Merge::LastWriter,
        words::Merge::FirstWriter => Merge::FirstWriter,
        words::Merge::Union => Merge::Union,
    });
    let no_cache = flags.no_cache.map(|word| match word {
        words::NoCache::Fresh => NoCache::Fresh,
        words::NoCache::Keep => NoCache::Keep,
    });
    let driver = flags.driver.map(|word| match word {
        words::Driver::Auto => Driver::Auto,
        words::Driver::Overlay => Driver::Overlay,
        words::Driver::Reflink => Driver::Reflink,
        words::Driver::Subvolume => Driver::Subvolume,
    });
    decided.merge = merge.or(decided.merge);
    decided.on_failure = flags.on_failure.map(salvage).or(decided.on_failure);
    decided.on_interrupt = flags.on_interrupt.map(salvage).or(decided.on_interrupt);
    decided.no_cache = no_cache.or(decided.no_cache);
    if flags.quota.is_some() || flags.quota_inodes.is_some() {
        let Quota { bytes, inodes } = decided.quota.unwrap_or_default();
        let (bytes, inodes) = (flags.quota.or(bytes), flags.quota_inodes.or(inodes));
        decided.quota = Some(Quota { bytes, inodes });
    }
    decided.floor = flags.floor.or(decided.floor);
    decided.expiry = flags.expiry.or(decided.expiry);
    decided.wait_limit = flags.wait_limit.or(decided.wait_limit);
    decided.driver = driver.or(decided.driver);
    decided.versions = flags.versions.or(decided.versions);
    decided
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command, VolumeCommand};

    fn flags(line: &str) -> PolicyArguments {
        let line = format!("larder volume policy v {line}");
        match Arguments::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Volume { command: VolumeCommand::Policy(arguments) } => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_changes_what_it_names_and_nothing_else() {
        let before = PolicyPatch {
            pinned: Some(true),
            floor: Some(1),
            quota: Some(Quota { bytes: Some(2), inodes: Some(3) }),
            ..PolicyPatch::default()
        };
        assert_eq!(decide(&before, &flags("")), before);
        let after = decide(&before, &flags("--merge union --quota 1k"));
        let quota = Some(Quota { bytes: Some(1024), inodes: Some(3) });
        assert_eq!(after, PolicyPatch { merge: Some(Merge::Union), quota, ..before.clone() });
        let cleared = decide(&before, &flags("--clear --versions 7"));
        let only = PolicyPatch { pinned: Some(true), versions: Some(7), ..PolicyPatch::default() };
        assert_eq!(cleared, only);
    }
}
