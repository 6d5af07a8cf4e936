//! What the client wants of the statement (protocol page `gateway.md` §6).

use std::collections::BTreeMap;

use bridge::{BuildError, Kind};

/// What the client wants of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProvenanceOptions {
    pub(super) max: bool,
    pub(super) inline_only: bool,
    pub(super) v02: bool,
    pub(super) builder_id: String,
}

impl ProvenanceOptions {
    /// Returns whether the graph is told, and what each step of it made.
    pub(crate) fn tells_steps(&self) -> bool {
        self.max
    }

    /// Reads what the options of a build ask for; none if no statement is wanted.
    ///
    /// # Errors
    /// Returns an error for an attestation of another type, or a mode that does not exist.
    pub(crate) fn of(options: &BTreeMap<String, String>) -> Result<Option<Self>, BuildError> {
        for key in options.keys().filter_map(|key| key.strip_prefix("attest:")) {
            if key != "provenance" && key != "sbom" {
                let text = format!("unknown attestation type \"{key}\"");
                return Err(BuildError::new(Kind::InvalidRequest, text));
            }
        }
        let asked = options
            .get("attest:provenance")
            .or_else(|| options.get("build-arg:BUILDKIT_ATTEST_PROVENANCE"));
        asked.map(|text| Self::parse(text)).transpose()
    }

    /// Returns what the record of a build keeps when its client asked for nothing.
    pub(crate) fn for_the_record() -> Self {
        Self { max: true, inline_only: false, v02: false, builder_id: String::new() }
    }

    fn parse(text: &str) -> Result<Self, BuildError> {
        let mut options = Self::for_the_record();
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let truth = matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True");
            match key {
                "mode" if matches!(value, "min") => options.max = false,
                "mode" if matches!(value, "max" | "full") => options.max = true,
                "mode" => {
                    let text = format!("invalid mode {value:?} for provenance: use min or max");
                    return Err(BuildError::new(Kind::InvalidRequest, text));
                }
                "inline-only" => options.inline_only = truth,
                "version" => options.v02 = value == "v0.2",
                "builder-id" => value.clone_into(&mut options.builder_id),
                _ => {}
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("attest:provenance".to_owned(), text.to_owned())])
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        assert!(ProvenanceOptions::of(&asked("mode=medium")).is_err());
        let other = BTreeMap::from([("attest:magic".to_owned(), String::new())]);
        let error = ProvenanceOptions::of(&other).unwrap_err();
        assert_eq!(error.to_string(), "unknown attestation type \"magic\"");
        assert_eq!(ProvenanceOptions::of(&BTreeMap::new()).unwrap(), None);
    }
}
