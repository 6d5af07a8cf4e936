//! What a client may ask of a frontend (`frontend.caps`).

use bridge::{BuildError, Detail, Kind};

/// What this frontend can do; an image of it says so in a label.
pub const CAPABILITIES: [&str; 4] = [
    "moby.buildkit.frontend.inputs",
    "moby.buildkit.frontend.subrequests",
    "moby.buildkit.frontend.contexts",
    "moby.buildkit.frontend.gitquerystring",
];

/// Checks a list of what the client needs. Beside the error is told whether another frontend, to which
/// the build may be handed over, could have it.
pub(crate) fn check(wanted: &str) -> Result<(), (BuildError, bool)> {
    let unknown = wanted.split(',').filter(|word| !word.is_empty()).filter_map(|word| {
        let (name, flags) = word.split_once('+').unwrap_or((word, ""));
        let forward = flags.split('+').any(|flag| flag == "forward");
        (!CAPABILITIES.contains(&name)).then_some((name, forward))
    });
    let unknown: Vec<_> = unknown.collect();
    // One that only we could have is decided at once.
    let Some((name, forward)) = unknown.iter().find(|(_, forward)| !forward).or(unknown.first())
    else {
        return Ok(());
    };
    let text = format!("unsupported frontend capability {name}");
    let detail = Detail::FrontendCapability((*name).to_owned());
    Err((BuildError::new(Kind::Unsupported, text).with_detail(detail), *forward))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_refused_unless_it_may_be_handed_over() {
        assert!(check("").is_ok());
        assert!(
            check("moby.buildkit.frontend.inputs,moby.buildkit.frontend.contexts+forward").is_ok()
        );
        let (error, forward) = check("a+forward,b").unwrap_err();
        assert_eq!(error.message(), "unsupported frontend capability b");
        assert_eq!(error.details(), [Detail::FrontendCapability("b".into())]);
        assert!(!forward);
        assert!(check("a+forward").unwrap_err().1);
    }
}
