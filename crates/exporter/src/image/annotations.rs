//! Annotations that the client or the frontend wants on the documents of an image.

use std::collections::BTreeMap;

use oci::Platform;

use crate::ExportError;
use crate::attributes::wrong;

/// Annotations of one document.
pub(crate) type Annotations = BTreeMap<String, String>;

/// Annotations by the document they go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AnnotationSet {
    /// On the index.
    pub(crate) index: Annotations,
    /// On what points to the index.
    pub(crate) index_descriptor: Annotations,
    /// On manifests, by platform; none for all.
    manifest: BTreeMap<Option<String>, Annotations>,
    /// On what points to manifests, by platform; none for all.
    manifest_descriptor: BTreeMap<Option<String>, Annotations>,
}

impl AnnotationSet {
    /// Takes `value` if `attribute` is `annotation[-<document>][[<platform>]].<key>`; returns false if
    /// it is something else.
    pub(crate) fn take(&mut self, attribute: &str, value: &str) -> Result<bool, ExportError> {
        let Some((document, platform, key)) = split(attribute) else { return Ok(false) };
        let platform = platform
            .map(|text| {
                let parsed = Platform::parse(text);
                let expected = "a platform such as `linux/amd64` in the brackets of its name";
                parsed.map(|one| one.to_string()).map_err(|_| wrong(attribute, value, expected))
            })
            .transpose()?;
        let place = match document {
            None | Some("manifest") => self.manifest.entry(platform).or_default(),
            Some("manifest-descriptor") => self.manifest_descriptor.entry(platform).or_default(),
            Some("index") => &mut self.index,
            Some("index-descriptor") => &mut self.index_descriptor,
            Some(_) => {
                let expected = "the annotation to be one of `manifest`, `manifest-descriptor`, \
                                `index` or `index-descriptor`";
                return Err(wrong(attribute, value, expected));
            }
        };
        place.insert(key.to_owned(), value.to_owned());
        Ok(true)
    }

    /// Returns the annotations of the manifest for `platform`.
    pub(crate) fn manifest(&self, platform: &str) -> Annotations {
        of(&self.manifest, platform)
    }

    /// Returns the annotations of what points to the manifest for `platform`.
    pub(crate) fn manifest_descriptor(&self, platform: &str) -> Annotations {
        of(&self.manifest_descriptor, platform)
    }

    /// Returns the platforms that annotations are meant for.
    pub(crate) fn platforms(&self) -> impl Iterator<Item = &str> {
        self.manifest.keys().chain(self.manifest_descriptor.keys()).flatten().map(String::as_str)
    }

    /// Returns true if something is to be put where Docker's documents have no place for it.
    pub(crate) fn needs_oci(&self) -> bool {
        let descriptors = self.manifest_descriptor.values().any(|one| !one.is_empty());
        descriptors || self.needs_index()
    }

    /// Returns true if something is to be put on an index.
    pub(crate) fn needs_index(&self) -> bool {
        !self.index.is_empty() || !self.index_descriptor.is_empty()
    }
}

fn of(places: &BTreeMap<Option<String>, Annotations>, platform: &str) -> Annotations {
    let mut found = places.get(&None).cloned().unwrap_or_default();
    found.extend(places.get(&Some(platform.to_owned())).cloned().unwrap_or_default());
    found
}

/// Splits the name of an attribute into document, platform and key.
fn split(attribute: &str) -> Option<(Option<&str>, Option<&str>, &str)> {
    let rest = attribute.strip_prefix("annotation")?;
    let (document, rest) = match rest.strip_prefix('-') {
        None => (None, rest),
        Some(rest) => {
            let end = rest.find(|letter: char| letter != '-' && !letter.is_ascii_lowercase())?;
            let (document, rest) = rest.split_at(end);
            (Some(document).filter(|document| !document.is_empty()), rest)
        }
    };
    let (platform, rest) = match rest.strip_prefix('[') {
        None => (None, rest),
        Some(rest) => {
            let (platform, rest) = rest.split_once(']')?;
            (Some(platform), rest)
        }
    };
    let key = rest.strip_prefix('.')?;
    let is_key = !key.is_empty() && !key.contains(char::is_whitespace);
    is_key.then_some((document, platform, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_goes_to_its_document() {
        let mut set = AnnotationSet::default();
        for (attribute, value) in [
            ("annotation.a.b", "all"),
            ("annotation-manifest.c", "all"),
            ("annotation[linux/arm64/v8].a.b", "arm"),
            ("annotation-manifest-descriptor[linux/amd64].d", "x"),
            ("annotation-index.e", "y"),
            ("annotation-index-descriptor.f", "z"),
        ] {
            assert!(set.take(attribute, value).unwrap(), "{attribute}");
        }
        assert_eq!(set.manifest("linux/amd64"), map(&[("a.b", "all"), ("c", "all")]));
        assert_eq!(set.manifest("linux/arm64"), map(&[("a.b", "arm"), ("c", "all")]));
        assert_eq!(set.manifest_descriptor("linux/amd64"), map(&[("d", "x")]));
        assert_eq!(set.manifest_descriptor("linux/arm64"), map(&[]));
        assert_eq!((&set.index, &set.index_descriptor), (&map(&[("e", "y")]), &map(&[("f", "z")])));
        assert_eq!(set.platforms().collect::<Vec<_>>(), ["linux/arm64", "linux/amd64"]);
    }

    #[test]
    fn what_is_no_annotation_is_left_alone() {
        let mut set = AnnotationSet::default();
        for attribute in ["annotations.a", "annotation", "annotation.", "name", "annotation.a b"] {
            assert!(!set.take(attribute, "x").unwrap(), "{attribute}");
        }
        assert_eq!(set, AnnotationSet::default());
        for attribute in ["annotation-layer.a", "annotation[nowhere].a"] {
            let error = set.take(attribute, "x").unwrap_err();
            assert!(error.is_request() && error.to_string().contains(attribute), "{error}");
        }
    }
}
