//! What a builder announced that it can do (protocol page `control.md` §8).

use std::collections::BTreeMap;

use bridge::{BuildError, Kind};
use proto::apicaps::ApiCap;

/// A list of features by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capabilities(BTreeMap<String, ApiCap>);

impl Capabilities {
    pub(crate) fn new(announced: Vec<ApiCap>) -> Self {
        Self(announced.into_iter().map(|one| (one.id.clone(), one)).collect())
    }

    /// Returns whether nothing was announced at all: such a builder is older than the lists.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|one| one.enabled)
    }

    /// Checks that a feature may be used.
    ///
    /// # Errors
    /// Returns an error that names it, with the builder's reason if it gave one.
    pub(crate) fn check(&self, id: &str) -> Result<(), BuildError> {
        let text = match self.0.get(id) {
            Some(one) if one.enabled => return Ok(()),
            Some(one) => {
                let reason = match &*one.disabled_reason_msg {
                    "" => String::new(),
                    reason => format!(": {reason}"),
                };
                format!("requested feature {id} has been disabled on the build server{reason}")
            }
            None => format!(
                "requested feature {id} is not supported by the build server, please update it"
            ),
        };
        Err(BuildError::new(Kind::User, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_must_be_announced_and_enabled() {
        let cap = |id: &str, enabled, reason: &str| ApiCap {
            id: id.to_owned(),
            enabled,
            disabled_reason_msg: reason.to_owned(),
            ..ApiCap::default()
        };
        let known = Capabilities::new(vec![cap("a", true, ""), cap("b", false, "no store")]);
        assert!(known.check("a").is_ok() && known.has("a"));
        let disabled = known.check("b").unwrap_err();
        assert!(disabled.message().ends_with("disabled on the build server: no store"));
        assert!(known.check("c").unwrap_err().message().contains("c is not supported"));
        assert!(!known.has("b") && !known.has("c"));
    }
}
