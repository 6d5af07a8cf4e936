//! Sources that are addresses: git repositories and files on the web.

use digests::Digest;

use crate::instruction::parse_bool;
use crate::path;
use crate::quote::quoted;

/// A git repository, and what of it is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GitSource {
    /// Where it is, without query and fragment.
    pub(crate) remote: String,
    /// The branch, tag or commit; empty for the default.
    pub(crate) reference: String,
    /// The directory; empty for all of it.
    pub(crate) subdir: String,
    /// The commit that must be found.
    pub(crate) checksum: String,
    /// `github.com/a/b`, which could be a path as well.
    pub(crate) looks_local: bool,
    /// Whether `.git` is kept, if said.
    pub(crate) keep_git_dir: Option<bool>,
    /// Whether submodules come along, if said.
    pub(crate) submodules: Option<bool>,
    /// Where the files' times come from; empty if not said.
    pub(crate) mtime: String,
    /// Whether the commit is fetched instead of the reference.
    pub(crate) fetch_by_commit: bool,
}

/// Returns the repository that an address names; none if it names none. An error is about its query.
pub(crate) fn parse_git(text: &str) -> Option<Result<GitSource, String>> {
    if text.starts_with("./") || text.starts_with("../") {
        return None;
    }
    let looks_local = text.starts_with("github.com/");
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (address, query) = address.split_once('?').unwrap_or((address, ""));
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None if looks_local => ("https".to_owned(), address),
        None => ("scp".to_owned(), address),
    };
    match scheme.as_str() {
        "http" | "https" if !looks_local && !rest.ends_with(".git") => return None,
        "http" | "https" if rest.starts_with('/') || rest.is_empty() => return None,
        "http" | "https" | "git" | "ssh" => {}
        "scp" if is_scp(rest) => {}
        _ => return None,
    }
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut source = GitSource {
        remote: address.to_owned(),
        reference: reference.to_owned(),
        subdir: clean_subdir(subdir),
        looks_local,
        ..GitSource::default()
    };
    Some(source.read_query(query).map(|()| source))
}

/// `user@host:path`, where neither user nor host has other than word characters.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    let word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    word(user) && word(host) && !path.is_empty()
}

fn clean_subdir(subdir: &str) -> String {
    let cleaned = path::clean(&format!("/{subdir}"));
    if cleaned == "/" { String::new() } else { subdir.to_owned() }
}

impl GitSource {
    fn read_query(&mut self, query: &str) -> Result<(), String> {
        let (mut tag, mut branch) = (None, None);
        let mut seen = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (unescape(key), unescape(value));
            if seen.contains(&key) {
                return Err(format!("query {} has multiple values", quoted(&key)));
            }
            let optional =
                matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !optional {
                return Err(format!("query {} has no value", quoted(&key)));
            }
            let truth = || match value.as_str() {
                "" => Ok(true),
                text => {
                    parse_bool(text).ok_or_else(|| format!("invalid {key} value: {}", quoted(text)))
                }
            };
            match key.as_str() {
                "ref" => agree("ref", &mut self.reference, &value)?,
                "subdir" => agree("subdir", &mut self.subdir, &value)?,
                "tag" => tag = Some(full_name("refs/tags/", &value)),
                "branch" => branch = Some(full_name("refs/heads/", &value)),
                "checksum" | "commit" => self.checksum = value,
                "keep-git-dir" => self.keep_git_dir = Some(truth()?),
                "submodules" => self.submodules = Some(truth()?),
                "fetch-by-commit" => self.fetch_by_commit = truth()?,
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => self.mtime = value,
                "mtime" => {
                    let rule = "(must be \"checkout\" or \"commit\")";
                    return Err(format!("invalid mtime value: {} {rule}", quoted(&value)));
                }
                other => return Err(format!("unexpected query {}", quoted(other))),
            }
            seen.push(key);
        }
        if let Some(tag) = &tag {
            agree("ref", &mut self.reference, tag)?;
        }
        match branch {
            Some(_) if tag.is_some() => Err("branch conflicts with tag".to_owned()),
            Some(branch) => agree("ref", &mut self.reference, &branch),
            None => Ok(()),
        }
    }
}

fn full_name(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn agree(what: &str, old: &mut String, new: &str) -> Result<(), String> {
    if !old.is_empty() && old != new {
        return Err(format!("{what} conflicts: {} vs {}", quoted(old), quoted(new)));
    }
    new.clone_into(old);
    Ok(())
}

/// Resolves `%41` and `+` in a query.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        let pair = rest.as_slice().get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (byte, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest.nth(1);
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns true for a file on the web: an address of `http` that names no repository.
pub(crate) fn is_web_file(text: &str) -> bool {
    has_web_scheme(text) && !matches!(parse_git(text), Some(Ok(_)))
}

/// Returns true for any address of `http` or `https`.
pub(crate) fn has_web_scheme(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Reads the digest that a file from the web must have.
pub(crate) fn parse_checksum(text: &str) -> Result<Digest, &'static str> {
    text.parse().map_err(|_| match text.split_once(':') {
        Some(("sha256", hex)) if !hex.is_empty() && hex.len() != 64 => {
            "invalid checksum digest length"
        }
        Some((algorithm, hex)) if algorithm != "sha256" && !algorithm.is_empty() && is_hex(hex) => {
            "unsupported digest algorithm"
        }
        Some(_) | None => "invalid checksum digest format",
    })
}

/// An algorithm that nobody knows has at least 32 digits.
fn is_hex(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the name that a file from the web gets: the last part of its path.
pub(crate) fn web_file_name(address: &str) -> String {
    let without = address.split(['?', '#']).next().unwrap_or_default();
    let path = without.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    match path.map(|(_, path)| unescape_path(path)) {
        Some(path) if !matches!(path::base(&path), "." | "/") => path::base(&path).to_owned(),
        Some(_) | None => "__unnamed__".to_owned(),
    }
}

fn unescape_path(path: &str) -> String {
    unescape(&path.replace('+', "%2B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> GitSource {
        parse_git(text).unwrap().unwrap()
    }

    #[test]
    fn repositories_are_told_from_files() {
        let found = git("https://example.com/a/b.git#v1:sub");
        assert_eq!(
            (found.remote.as_str(), found.reference.as_str()),
            ("https://example.com/a/b.git", "v1")
        );
        assert_eq!(found.subdir, "sub");
        assert_eq!(git("git@example.com:a/b.git").remote, "git@example.com:a/b.git");
        assert!(git("github.com/a/b").looks_local);
        for text in
            ["https://example.com/a.tar", "./x.git", "a/b", "C:\\x", "https:///x.git", "a@b"]
        {
            assert_eq!(parse_git(text), None, "{text}");
        }
        assert!(is_web_file("https://example.com/a.tar") && !is_web_file("https://x/a.git"));
    }

    #[test]
    fn queries_say_more() {
        let found = git("https://x/a.git?branch=b&subdir=s&checksum=12&submodules=0&keep-git-dir");
        assert_eq!((found.reference.as_str(), found.subdir.as_str()), ("refs/heads/b", "s"));
        assert_eq!((found.checksum.as_str(), found.submodules), ("12", Some(false)));
        assert_eq!(found.keep_git_dir, Some(true));
        for (text, expected) in [
            ("https://x/a.git?foo=1", "unexpected query \"foo\""),
            ("https://x/a.git?tag=a&branch=b", "branch conflicts with tag"),
            ("https://x/a.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("https://x/a.git?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("https://x/a.git?ref=", "query \"ref\" has no value"),
        ] {
            assert_eq!(parse_git(text), Some(Err(expected.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_checksum_is_said() {
        let digits = "0".repeat(64);
        assert!(parse_checksum(&format!("sha256:{digits}")).is_ok());
        for (text, expected) in [
            ("abc".to_owned(), "invalid checksum digest format"),
            (format!(":{digits}"), "invalid checksum digest format"),
            ("sha256:".to_owned(), "invalid checksum digest format"),
            ("sha256:12".to_owned(), "invalid checksum digest length"),
            (format!("sha256:{}", "x".repeat(64)), "invalid checksum digest format"),
            (format!("md5:{digits}"), "unsupported digest algorithm"),
            ("md5:12".to_owned(), "invalid checksum digest format"),
        ] {
            assert_eq!(parse_checksum(&text), Err(expected), "{text}");
        }
    }

    #[test]
    fn web_files_are_named_by_their_path() {
        assert_eq!(web_file_name("https://x/a/b%20c.tar?x=1"), "b c.tar");
        assert_eq!(web_file_name("https://x/"), "__unnamed__");
        assert_eq!(web_file_name("https://x"), "__unnamed__");
    }
}
