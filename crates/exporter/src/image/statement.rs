//! In-toto statements: what is said about a result, and of what it is said.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use digests::Digest;
use oci::{Platform, Reference, json};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json_text::{compact, indent};
use crate::{ExportError, Statement, StatementSubject};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// A thing that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Subject {
    name: String,
    digest: BTreeMap<&'static str, String>,
}

impl Subject {
    pub(crate) fn new(name: impl Into<String>, digests: &[Digest]) -> Self {
        let digest = digests.iter().map(|digest| (digest.algorithm(), digest.hex())).collect();
        Self { name: name.into(), digest }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    predicate_type: &'a str,
    subject: Vec<Subject>,
    predicate: &'a RawValue,
}

/// Returns the document of a statement about `subjects`, on one line; `predicate` is what it says by now.
pub(crate) fn document(
    statement: &Statement,
    predicate: &[u8],
    subjects: &[Subject],
) -> Result<Vec<u8>, ExportError> {
    let predicate = if predicate.is_empty() { b"null" } else { predicate };
    let predicate: &RawValue = serde_json::from_slice(predicate).map_err(|error| {
        let kind = &statement.predicate_type;
        ExportError::Result(format!("invalid attestation of type `{kind}`: {error}"))
    })?;
    let document = Document {
        kind: STATEMENT_TYPE,
        predicate_type: &statement.predicate_type,
        subject: about(statement, subjects),
        predicate,
    };
    let encoded = json::encode(&document).map_err(ExportError::during("write attestation"))?;
    Ok(compact(&encoded))
}

/// Returns what a statement is about; `result` is what the result itself is known as.
fn about(statement: &Statement, result: &[Subject]) -> Vec<Subject> {
    if statement.subjects.is_empty() {
        return result.to_vec();
    }
    let named = |name: &str, one: &Subject| Subject { name: name.to_owned(), ..one.clone() };
    let mut about = Vec::new();
    for subject in &statement.subjects {
        match subject {
            StatementSubject::Itself(name) if name.is_empty() => about.extend_from_slice(result),
            StatementSubject::Itself(name) => {
                about.extend(result.iter().flat_map(|one| [one.clone(), named(name, one)]));
            }
            StatementSubject::Other { name, digests } => {
                about.push(Subject::new(if name.is_empty() { "_" } else { name }, digests));
            }
        }
    }
    about
}

/// Returns the same document on many lines.
pub(crate) fn indented(
    statement: &Statement,
    predicate: &[u8],
    subjects: &[Subject],
) -> Result<Vec<u8>, ExportError> {
    document(statement, predicate, subjects).map(|document| indent(&document))
}

/// Returns the package URL of an image for a platform:
/// `pkg:docker/team/app@v1?platform=linux%2Famd64`.
pub(crate) fn package_url(image: &Reference, platform: &Platform) -> String {
    let familiar = image.familiar();
    let tag = image.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = image.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
    let name = familiar.strip_suffix(&format!("{tag}{digest}")).unwrap_or(&familiar);
    let name: Vec<String> = name.split('/').map(escape).collect();
    let mut url = format!("pkg:docker/{}", name.join("/"));
    // Writing to a string cannot fail.
    if let Some(tag) = image.tag() {
        let _ = write!(url, "@{tag}");
    }
    let digest = image.digest().map(|digest| format!("digest={}", escape(&digest.to_string())));
    let platform = format!("platform={}", escape(&platform.clone().normalized().short()));
    let qualifiers: Vec<String> = digest.into_iter().chain([platform]).collect();
    let _ = write!(url, "?{}", qualifiers.join("&"));
    url
}

/// Escapes what has a meaning in a URL.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn images_have_package_urls() {
        let amd64 = Platform::new("linux", "amd64");
        let arm = Platform::new("linux", "arm");
        let digest = Digest::of("x");
        let with_digest = format!("localhost:5000/a/b@{digest}");
        let escaped = format!("digest=sha256%3A{}", digest.hex());
        for (name, platform, expected) in [
            ("busybox", &amd64, "pkg:docker/busybox@latest?platform=linux%2Famd64".to_owned()),
            (
                "moby/buildkit:v1",
                &arm,
                "pkg:docker/moby/buildkit@v1?platform=linux%2Farm%2Fv7".to_owned(),
            ),
            (
                with_digest.as_str(),
                &amd64,
                format!("pkg:docker/localhost%3A5000/a/b?{escaped}&platform=linux%2Famd64"),
            ),
        ] {
            let reference = Reference::parse(name).unwrap();
            assert_eq!(package_url(&reference, platform), expected, "{name}");
        }
    }

    #[test]
    fn a_statement_is_about_its_subjects() {
        let statement = Statement {
            predicate_type: "https://slsa.dev/provenance/v1".to_owned(),
            predicate: Bytes::new().into(),
            path: "provenance.json".to_owned(),
            inline_only: false,
            is_list: false,
            subjects: vec![
                StatementSubject::Itself(String::new()),
                StatementSubject::Other { name: String::new(), digests: vec![Digest::of("raw")] },
            ],
        };
        let subject = [Subject::new("pkg:docker/x", &[Digest::of("image")])];
        let said = br#"{ "z": "<a b>", "a": [] }"#;
        let document = String::from_utf8(document(&statement, said, &subject).unwrap()).unwrap();
        let expected = format!(
            concat!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","#,
                r#""predicateType":"https://slsa.dev/provenance/v1","#,
                r#""subject":[{{"name":"pkg:docker/x","digest":{{"sha256":"{}"}}}},"#,
                r#"{{"name":"_","digest":{{"sha256":"{}"}}}}],"#,
                r#""predicate":{{"z":"\u003ca b\u003e","a":[]}}}}"#
            ),
            Digest::of("image").hex(),
            Digest::of("raw").hex(),
        );
        assert_eq!(document, expected);
        let names = |subjects: Vec<StatementSubject>| -> Vec<String> {
            let about = about(&Statement { subjects, ..statement.clone() }, &subject);
            about.into_iter().map(|subject| subject.name).collect()
        };
        assert_eq!(names(Vec::new()), ["pkg:docker/x"]);
        let itself = StatementSubject::Itself("also".to_owned());
        assert_eq!(names(vec![itself]), ["pkg:docker/x", "also"]);
        // What names something else says nothing of the image.
        let other = StatementSubject::Other { name: "other".to_owned(), digests: Vec::new() };
        assert_eq!(names(vec![other]), ["other"]);
        let error = indented(&statement, b"{", &[]).unwrap_err();
        assert!(error.to_string().contains("https://slsa.dev/provenance/v1"), "{error}");
    }
}
