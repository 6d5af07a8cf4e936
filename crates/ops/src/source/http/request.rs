//! Which file is meant, and how it is asked for.

use digests::Digest;
use llb::SourceOp;
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderName, HeaderValue, USER_AGENT};
use solver::OpError;

use super::filename;
use crate::file::entry::Owner;
use crate::{OperationError, failure};

/// The host of addresses that stand for something the client uploads.
const UPLOADS: &str = "buildkit-session";

/// A file, and what it shall become.
#[derive(Debug, Clone)]
pub(super) struct FileRequest {
    pub(super) url: Url,
    /// The digest that the file must have.
    pub(super) checksum: Option<Digest>,
    /// The name that was asked for.
    name: Option<String>,
    pub(super) mode: u32,
    pub(super) owner: Owner,
    /// The secret whose value is the header `Authorization`; without it, others are tried.
    pub(super) secret: Option<String>,
    /// What else the server is told.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl FileRequest {
    pub(super) fn parse(source: &SourceOp) -> Result<Self, OpError> {
        let wrong = |reason: String| {
            failure(OperationError::Source { identifier: source.identifier.clone(), reason })
        };
        let url = Url::parse(&source.identifier).map_err(|error| wrong(error.to_string()))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("it has no host".to_owned()));
        }
        let given = |key: &str| source.attribute(key).filter(|text| !text.is_empty());
        let number = |key: &str, default: u32| match given(key) {
            None => Ok(default),
            Some(text) => integer(text)
                .ok_or_else(|| wrong(format!("attribute `{key}`: invalid number `{text}`"))),
        };
        let checksum = match given("http.checksum") {
            None => None,
            Some(text) => Some(text.parse().map_err(|error| wrong(format!("{error}")))?),
        };
        let mut headers = Vec::new();
        for name in [ACCEPT, USER_AGENT] {
            let wanted = format!("http.header.{name}");
            let value = source.attributes.iter().find(|(key, _)| key.eq_ignore_ascii_case(&wanted));
            if let Some((key, value)) = value {
                let value = HeaderValue::from_str(value);
                let invalid = |_| wrong(format!("attribute `{key}` is not the value of a header"));
                headers.push((name, value.map_err(invalid)?));
            }
        }
        Ok(Self {
            url,
            checksum,
            name: given("http.filename").map(str::to_owned),
            mode: number("http.perm", 0o600)?,
            owner: Owner { uid: number("http.uid", 0)?, gid: number("http.gid", 0)? },
            secret: given("http.authheadersecret").map(str::to_owned),
            headers,
        })
    }

    /// Returns the id of the upload that is meant; none for a file from the web.
    pub(super) fn upload(&self) -> Option<&str> {
        let is_upload = self.url.scheme() == "http" && self.url.host_str() == Some(UPLOADS);
        is_upload.then(|| self.url.path().trim_start_matches('/'))
    }

    /// Returns what the file is called, given what the server says in `Content-Disposition`.
    pub(super) fn filename(&self, disposition: Option<&str>) -> String {
        if let Some(name) = &self.name {
            return filename::safe(name);
        }
        let given = disposition.and_then(filename::given);
        given.unwrap_or_else(|| filename::of_address(&self.url))
    }

    /// Returns the address without what is secret in it.
    pub(super) fn shown(&self) -> String {
        let mut url = self.url.clone();
        if url.password().is_some() {
            // An address that has a password can lose it.
            let _ = url.set_password(Some("xxxxx"));
        }
        url.to_string()
    }
}

/// Reads a number as Go writes it in source: `0755` and `0o755` are octal.
fn integer(text: &str) -> Option<u32> {
    let text = text.replace('_', "").to_ascii_lowercase();
    let radix = |prefix: &str, radix| {
        text.strip_prefix(prefix).map(|digits| u32::from_str_radix(digits, radix).ok())
    };
    let known = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8));
    match known {
        Some(number) => number,
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(&text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn source(identifier: &str, attributes: &[(&str, &str)]) -> SourceOp {
        let attributes: BTreeMap<_, _> = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        SourceOp { identifier: identifier.to_owned(), attributes }
    }

    #[test]
    fn numbers_are_as_go_writes_them() {
        for (text, expected) in [
            ("0755", Some(0o755)),
            ("0o755", Some(0o755)),
            ("755", Some(755)),
            ("0x1F", Some(31)),
            ("0b11", Some(3)),
            ("1_000", Some(1000)),
            ("0", Some(0)),
            ("09", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    #[test]
    fn wrong_requests_say_what_is_wrong() {
        for (identifier, attributes, said) in [
            ("http://", &[][..], "invalid source `http://`"),
            ("https://h/a", &[("http.perm", "rwx")], "`http.perm`: invalid number `rwx`"),
            ("https://h/a", &[("http.checksum", "md5:1")], "md5"),
            ("https://h/a", &[("http.header.accept", "a\nb")], "`http.header.accept`"),
        ] {
            let error = FileRequest::parse(&source(identifier, attributes)).unwrap_err();
            assert!(error.full_text().contains(said), "{}", error.full_text());
        }
    }

    #[test]
    fn only_two_headers_are_sent_and_no_password_is_shown() {
        let attributes = [("http.header.Accept", "x"), ("http.header.cookie", "y")];
        let request = source("https://u:secret@h/a", &attributes);
        let request = FileRequest::parse(&request).unwrap();
        assert_eq!(request.headers, [(ACCEPT, HeaderValue::from_static("x"))]);
        assert!(!request.shown().contains("secret"));
        assert_eq!((request.upload(), request.mode), (None, 0o600));
        let upload = FileRequest::parse(&source("http://buildkit-session/abc", &[])).unwrap();
        assert_eq!(upload.upload(), Some("abc"));
    }
}
