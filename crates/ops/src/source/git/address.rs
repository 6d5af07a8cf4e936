//! Which repository is meant, and what of it.

use llb::SourceOp;
use mount::GuestPath;
use solver::OpError;

use crate::{OperationError, failure};

/// A repository, what is wanted of it, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// What `git` is told.
    pub(super) remote: String,
    /// The branch, tag or commit; none for the repository's default.
    pub(super) reference: Option<String>,
    /// The directory that becomes the tree.
    pub(super) subdir: GuestPath,
    pub(super) git_dir: GitDir,
    /// The commit that must be found, or its first digits.
    pub(super) checksum: Option<String>,
    pub(super) submodules: bool,
    pub(super) times: Times,
    /// Whether the commit of the checksum is fetched instead of the reference.
    pub(super) by_commit: bool,
    /// Secrets that may hold what the server wants to see.
    pub(super) secrets: Vec<AuthSecret>,
    /// What is known of the hosts; without it, any is believed.
    pub(super) known_hosts: Option<String>,
    /// The client's agent that proves who asks.
    pub(super) agent: Option<String>,
}

/// Whether `.git` is part of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitDir {
    Kept,
    Left,
}

/// Where the times of files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    Checkout,
    Commit,
}

/// A secret that may hold what a server wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AuthSecret {
    pub(super) name: String,
    /// Whether it is a token, and not the header itself.
    pub(super) is_token: bool,
}

impl Repository {
    pub(super) fn parse(source: &SourceOp) -> Result<Self, OpError> {
        let parsed = Self::try_parse(source);
        parsed.map_err(|reason| {
            let identifier = without_password(&source.identifier);
            failure(OperationError::Source { identifier, reason })
        })
    }

    fn try_parse(source: &SourceOp) -> Result<Self, String> {
        let given = |key: &str| source.attribute(key).filter(|text| !text.is_empty());
        let flag = |key: &str| given(key) == Some("true");
        let unsupported = ["git.bundle", "git.checkoutbundle", "git.sig.pubkey"];
        if let Some(key) = unsupported.into_iter().find(|key| given(key).is_some()) {
            return Err(format!("attribute `{key}` is not supported"));
        }
        let (place, fragment) = source.split().1.split_once('#').unwrap_or((source.split().1, ""));
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let remote = with_transport(given("git.fullurl").unwrap_or(place));
        check_remote(&remote)?;
        let reference = Some(reference).filter(|name| !name.is_empty() && *name != "HEAD");
        reference.map_or(Ok(()), check_reference)?;
        let checksum = given("git.checksum").map(str::to_owned);
        let by_commit = flag("git.fetchbycommit") && !reference.is_some_and(is_commit);
        check_checksum(checksum.as_deref(), reference, by_commit)?;
        let times = match given("git.mtime") {
            None | Some("checkout") => Times::Checkout,
            Some("commit") => Times::Commit,
            Some(other) => return Err(format!("attribute `git.mtime`: invalid value `{other}`")),
        };
        let secrets =
            secrets(host(&remote), given("git.authheadersecret"), given("git.authtokensecret"));
        Ok(Self {
            reference: reference.map(str::to_owned),
            subdir: GuestPath::new(subdir).map_err(|error| error.to_string())?,
            git_dir: if flag("git.keepgitdir") { GitDir::Kept } else { GitDir::Left },
            checksum,
            submodules: !flag("git.skipsubmodules"),
            times,
            by_commit,
            secrets,
            known_hosts: given("git.knownsshhosts").map(str::to_owned),
            agent: given("git.mountsshsock").map(str::to_owned),
            remote,
        })
    }

    /// Returns the address without what is secret in it.
    pub(super) fn shown(&self) -> String {
        without_password(&self.remote)
    }

    /// Returns whether the commit that was found is the one that was asked for.
    pub(super) fn accepts(&self, commits: &[&str]) -> bool {
        let Some(checksum) = &self.checksum else { return true };
        commits.iter().any(|commit| commit.starts_with(checksum.as_str()))
    }
}

/// Returns true for the full name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digits && matches!(text.len(), 40 | 64)
}

fn with_transport(place: &str) -> String {
    if place.contains("://") || scp_host(place).is_some() {
        return place.to_owned();
    }
    format!("https://{place}")
}

/// Returns the host of `user@host:path`.
fn scp_host(place: &str) -> Option<&str> {
    let (user, rest) = place.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    (!user.contains('/') && !host.contains('/') && !path.is_empty()).then_some(host)
}

/// Returns the host, with its port if it is not the usual one.
fn host(remote: &str) -> &str {
    let Some((_, rest)) = remote.split_once("://") else {
        return scp_host(remote).unwrap_or_default();
    };
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn check_remote(remote: &str) -> Result<(), String> {
    if remote.starts_with('-') || remote.chars().any(char::is_control) {
        return Err("its address is not one of a repository".to_owned());
    }
    let host = host(remote);
    let known = |letter: char| letter.is_alphanumeric() || "-._:[]".contains(letter);
    // `ext::program` has a host only if two colons may stand in one that is no address.
    let double = host.contains("::") && !host.starts_with('[');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(known) || double {
        return Err(format!("`{host}` is not a host"));
    }
    match remote.split_once("://").map(|(scheme, _)| scheme) {
        None | Some("http" | "https" | "ssh" | "git") => Ok(()),
        Some(scheme) => {
            Err(format!("transport `{scheme}` is not allowed; use https, http, ssh or git"))
        }
    }
}

/// Refuses what is not a name, above all what `git` would take for an option or a pattern.
fn check_reference(name: &str) -> Result<(), String> {
    let strange = |letter: char| {
        letter.is_control() || matches!(letter, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\')
    };
    let bad = name.starts_with(['-', '/', '+'])
        || name.ends_with(['/', '.'])
        || name.contains("..")
        || name.contains("@{")
        || name.contains("//")
        || name.contains(strange);
    if bad { Err(format!("`{name}` is not the name of a branch, tag or commit")) } else { Ok(()) }
}

fn check_checksum(
    checksum: Option<&str>,
    reference: Option<&str>,
    by_commit: bool,
) -> Result<(), String> {
    let Some(checksum) = checksum else {
        let hint = "fetch-by-commit requires a checksum or a commit SHA ref";
        return if by_commit { Err(hint.to_owned()) } else { Ok(()) };
    };
    if !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("invalid checksum {checksum} for Git URL, expected hex commit hash"));
    }
    if by_commit && !is_commit(checksum) {
        let hint = "fetch-by-commit requires a full commit SHA checksum";
        return Err(format!("{hint}, got `{checksum}`"));
    }
    match reference.filter(|name| is_commit(name) && !name.starts_with(checksum)) {
        Some(name) => Err(format!("expected checksum to match {checksum}, got {name}")),
        None => Ok(()),
    }
}

fn secrets(host: &str, header: Option<&str>, token: Option<&str>) -> Vec<AuthSecret> {
    let both = [(header, false), (token, true)];
    let named = both.into_iter().filter_map(|(name, is_token)| Some((name?, is_token)));
    let own = named.clone().map(|(name, is_token)| (format!("{name}.{host}"), is_token));
    let any = named.map(|(name, is_token)| (name.to_owned(), is_token));
    own.chain(any).map(|(name, is_token)| AuthSecret { name, is_token }).collect()
}

fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host)))
    {
        Some((user, host)) => format!("{scheme}://{user}:xxxxx@{host}{path}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn parse(identifier: &str, attributes: &[(&str, &str)]) -> Result<Repository, String> {
        let attributes = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let source = SourceOp { identifier: identifier.to_owned(), attributes };
        Repository::parse(&source).map_err(|error| error.full_text())
    }

    #[test]
    fn a_repository_is_understood_in_all_its_forms() {
        for (identifier, remote, reference, subdir) in [
            ("git://h/a/b.git", "https://h/a/b.git", None, "/"),
            ("git://h/a#main", "https://h/a", Some("main"), "/"),
            ("git://h/a#HEAD:x/../y", "https://h/a", None, "/y"),
            ("git://h/a#refs/tags/v1:../../etc", "https://h/a", Some("refs/tags/v1"), "/etc"),
            ("git://git@h:a/b.git#v1", "git@h:a/b.git", Some("v1"), "/"),
            ("git://http://h:81/a", "http://h:81/a", None, "/"),
        ] {
            let repository = parse(identifier, &[]).unwrap();
            assert_eq!(repository.remote, remote);
            assert_eq!(repository.reference.as_deref(), reference);
            assert_eq!(repository.subdir, GuestPath::new(subdir).unwrap());
        }
        let full = parse("git://h/a#x", &[("git.fullurl", "ssh://git@h/a")]).unwrap();
        assert_eq!(full.remote, "ssh://git@h/a");
    }

    #[test]
    fn hostile_names_go_nowhere() {
        for (identifier, attributes, said) in [
            ("git://h/a#--upload-pack=x", &[][..], "not the name of a branch"),
            ("git://h/a#+main", &[], "not the name of a branch"),
            ("git://h/a#a b", &[], "not the name of a branch"),
            ("git://h/a#a^{}", &[], "not the name of a branch"),
            ("git://h/a#a\nb", &[], "not the name of a branch"),
            ("git://-oProxyCommand=x/a", &[], "is not a host"),
            ("git://x@-oProxyCommand=x:a", &[], "is not a host"),
            ("git://h/a", &[("git.fullurl", "file:///etc")], "is not a host"),
            ("git://h/a", &[("git.fullurl", "file://h/etc")], "transport `file` is not allowed"),
            ("git://h/a", &[("git.fullurl", "ext::sh -c x")], "is not a host"),
            ("git://h/a", &[("git.fullurl", "--x")], "is not a host"),
            ("git://h/a", &[("git.checksum", "xyz")], "expected hex commit hash"),
            ("git://h/a", &[("git.fetchbycommit", "true")], "requires a checksum"),
            ("git://h/a", &[("git.mtime", "never")], "`git.mtime`"),
            ("git://h/a", &[("git.bundle", "x")], "`git.bundle`"),
        ] {
            let said_in_fact = parse(identifier, attributes).map(|found| found.remote).unwrap_err();
            assert!(said_in_fact.contains(said), "{identifier}: {said_in_fact}");
        }
        let wrong = parse(&format!("git://h/a#{COMMIT}"), &[("git.checksum", "fff")]).unwrap_err();
        assert!(wrong.contains("expected checksum to match fff"), "{wrong}");
    }

    #[test]
    fn secrets_of_the_host_come_first_and_none_is_shown() {
        let attributes = [("git.authheadersecret", "H"), ("git.authtokensecret", "T")];
        let repository = parse("git://https://me:word@h:8443/a", &attributes).unwrap();
        let names: Vec<_> = repository.secrets.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["H.h:8443", "T.h:8443", "H", "T"]);
        assert_eq!(repository.shown(), "https://me:xxxxx@h:8443/a");
    }

    proptest::proptest! {
        #[test]
        fn anything_is_parsed_or_refused(text in ".*", url in ".*") {
            let parsed = parse(&format!("git://{text}"), &[("git.fullurl", url.as_str())]);
            if let Ok(repository) = parsed {
                proptest::prop_assert!(!repository.remote.starts_with('-'));
                proptest::prop_assert!(!repository.reference.is_some_and(|name| name.starts_with('-')));
            }
        }
    }
}
