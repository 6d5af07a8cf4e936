//! Trees that come from a git repository.

use super::source::Attributes;
use super::{OpOptions, State};

/// How a repository is brought in.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// The branch, tag or commit; empty is the repository's default.
    pub reference: String,
    /// The directory of the repository that becomes the tree; empty is all of it.
    pub subdir: String,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// The secret that holds a token, tried with `.<host>` appended first.
    pub auth_token_secret: String,
    /// The secret that holds an `Authorization` header, tried with `.<host>` appended first.
    pub auth_header_secret: String,
    /// What is known of the hosts, for `ssh`.
    pub known_ssh_hosts: String,
    /// The agent to use, for `ssh`; empty is `default`.
    pub ssh_agent: String,
    /// The commit that must be found, or its first digits.
    pub checksum: String,
    /// Whether submodules are left out.
    pub skip_submodules: bool,
    /// Where the files' times come from: empty, `checkout` or `commit`.
    pub mtime: String,
    /// Whether the commit of `checksum` is fetched instead of the reference.
    pub fetch_by_commit: bool,
}

impl Default for GitOptions {
    fn default() -> Self {
        Self {
            reference: String::new(),
            subdir: String::new(),
            keep_git_dir: false,
            auth_token_secret: Self::AUTH_TOKEN.to_owned(),
            auth_header_secret: Self::AUTH_HEADER.to_owned(),
            known_ssh_hosts: String::new(),
            ssh_agent: String::new(),
            checksum: String::new(),
            skip_submodules: false,
            mtime: String::new(),
            fetch_by_commit: false,
        }
    }
}

impl GitOptions {
    /// The name of the secret with a token, by default.
    pub const AUTH_TOKEN: &'static str = "GIT_AUTH_TOKEN";
    /// The name of the secret with a header, by default.
    pub const AUTH_HEADER: &'static str = "GIT_AUTH_HEADER";
}

/// Where a repository is: what all ways to reach it have in common.
struct Location<'a> {
    is_ssh: bool,
    host: &'a str,
    path: &'a str,
}

impl<'a> Location<'a> {
    /// Understands `https://host/path`, `ssh://user@host/path` and `user@host:path`.
    fn parse(remote: &'a str) -> Option<Self> {
        if let Some((scheme, rest)) = remote.split_once("://") {
            let is_ssh = match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" | "git" => false,
                "ssh" => true,
                _ => return None,
            };
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            return Some(Self { is_ssh, host, path });
        }
        let (_, place) = remote.split_once('@')?;
        let (host, path) = place.split_once(':')?;
        Some(Self { is_ssh: true, host, path })
    }
}

impl State {
    /// Returns the tree of a git repository.
    ///
    /// `remote` is a URL without a fragment, `user@host:path`, or `host/path` for `https`.
    pub fn git(remote: &str, git: GitOptions, options: OpOptions) -> Self {
        let with_scheme = format!("https://{remote}");
        let known = Location::parse(remote).map(|location| (remote, location));
        let guessed = || Some((with_scheme.as_str(), Location::parse(&with_scheme)?));
        let (remote, location) = match known.or_else(guessed) {
            Some((remote, location)) => (remote, Some(location)),
            None => (remote, None),
        };
        let subdir = crate::state::file::clean(&format!("/{}", git.subdir));
        let subdir = subdir.trim_start_matches('/');
        let identifier = match &location {
            Some(location) => identifier(location, &git.reference, subdir),
            None => remote.to_owned(),
        };

        let custom = git.auth_token_secret != GitOptions::AUTH_TOKEN
            || git.auth_header_secret != GitOptions::AUTH_HEADER;
        let auth = custom.then_some("source.git.httpauth");
        let mut attributes = Attributes::default();
        attributes
            .cap("source.git")
            .flag("git.keepgitdir", git.keep_git_dir, "source.git.keepgitdir")
            .text("git.fullurl", remote, Some("source.git.fullurl"))
            .text("git.authtokensecret", &git.auth_token_secret, auth)
            .text("git.authheadersecret", &git.auth_header_secret, auth)
            .text("git.checksum", &git.checksum, Some("source.git.checksum"))
            .flag("git.skipsubmodules", git.skip_submodules, "source.git.skipsubmodules")
            .text("git.mtime", &git.mtime, Some("source.git.mtime"))
            .flag("git.fetchbycommit", git.fetch_by_commit, "source.git.fetchbycommit");
        if location.is_some_and(|location| location.is_ssh) {
            let agent = if git.ssh_agent.is_empty() { "default" } else { &git.ssh_agent };
            attributes
                .cap("source.git.knownsshhosts")
                .text("git.knownsshhosts", &git.known_ssh_hosts, None)
                .text("git.mountsshsock", agent, Some("source.git.mountsshsock"));
        }
        attributes.state(format!("git://{identifier}"), options)
    }
}

/// The same for all ways to reach a repository, so that they share a vertex' cache.
fn identifier(location: &Location<'_>, reference: &str, subdir: &str) -> String {
    let path = crate::state::file::clean(&format!("/{}", location.path));
    let mut identifier = format!("{}{path}", location.host);
    if !reference.is_empty() || !subdir.is_empty() {
        identifier.push('#');
        identifier.push_str(reference);
    }
    if !subdir.is_empty() {
        identifier.push(':');
        identifier.push_str(subdir);
    }
    identifier
}
