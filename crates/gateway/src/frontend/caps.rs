//! What a build needs of a frontend, against what the frontend's image says that it can do.

use bridge::{BuildError, Detail, FrontendRequest, Kind};
use oci::RunConfig;

const LABEL: &str = "moby.buildkit.frontend.caps";
const WANTED: &str = "frontend.caps";
const INPUTS: &str = "moby.buildkit.frontend.inputs";

/// Checks that the frontend can do all that the build needs.
///
/// # Errors
/// Returns an error that names what it lacks.
pub(super) fn check(image: &RunConfig, request: &FrontendRequest) -> Result<(), BuildError> {
    let offered = image.labels.get(LABEL).map(String::as_str).unwrap_or_default();
    let offered: Vec<&str> = names(offered).collect();
    let wanted = request.options.get(WANTED).map(String::as_str).unwrap_or_default();
    let inputs = (!request.inputs.is_empty()).then_some(INPUTS);
    match names(wanted).chain(inputs).find(|name| !offered.contains(name)) {
        None => Ok(()),
        Some(missing) => {
            let text = format!("unsupported frontend capability {missing}");
            let detail = Detail::FrontendCapability(missing.to_owned());
            Err(BuildError::new(Kind::Unsupported, text).with_detail(detail))
        }
    }
}

/// Returns the names in a list, without what is said about each after a `+`.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(|word| word.split_once('+').map_or(word, |(name, _)| name).trim())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use llb::Definition;

    use super::*;

    fn checked(offered: &str, wanted: &str, with_input: bool) -> Result<(), String> {
        let labels = [(LABEL.to_owned(), offered.to_owned())].into();
        let image = RunConfig { labels, ..RunConfig::default() };
        let mut request = FrontendRequest::default();
        request.options.insert(WANTED.to_owned(), wanted.to_owned());
        if with_input {
            request.inputs.insert("i".to_owned(), Definition::empty());
        }
        check(&image, &request).map_err(|error| {
            let [Detail::FrontendCapability(name)] = error.details() else { panic!("{error:?}") };
            assert!(error.message().ends_with(name.as_str()));
            name.clone()
        })
    }

    #[test]
    fn what_is_wanted_must_be_offered() {
        assert_eq!(checked("a,b", "a+forward,b", false), Ok(()));
        assert_eq!(checked("", "", false), Ok(()));
        assert_eq!(checked("a", "a,b+forward", false), Err("b".to_owned()));
        assert_eq!(checked("a", "", true), Err(INPUTS.to_owned()));
        assert_eq!(checked(INPUTS, "", true), Ok(()));
    }
}
