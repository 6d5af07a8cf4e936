//! What a branch or a tag is now.

use super::address::{GitDir, Repository, is_commit};
use super::program::Git;
use super::{GitError, call_failed};

/// A branch, tag or commit, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its full name: `refs/heads/main`, or the commit itself.
    pub(super) name: String,
    /// What the name stands for: a commit, or a tag that says more than its name.
    pub(super) object: String,
    /// The commit that such a tag stands for.
    pub(super) tagged: Option<String>,
}

impl Found {
    /// Returns the commit.
    pub(crate) fn commit(&self) -> &String {
        self.tagged.as_ref().unwrap_or(&self.object)
    }
}

/// Returns what needs no question: a commit that is named in full.
pub(super) fn known(repository: &Repository) -> Option<Found> {
    let named = repository.reference.as_ref();
    if let Some(commit) = named.filter(|name| is_commit(name)) {
        return Some(Found { name: commit.clone(), object: commit.clone(), tagged: None });
    }
    let checksum = repository.checksum.as_ref().filter(|_| repository.by_commit)?;
    let name = match named {
        None => checksum.clone(),
        Some(name) if name.starts_with("refs/") => name.clone(),
        Some(name) => format!("refs/heads/{name}"),
    };
    Some(Found { name, object: checksum.clone(), tagged: None })
}

/// Asks the remote what a branch or tag is.
pub(super) async fn find(git: &Git, repository: &Repository) -> Result<Found, GitError> {
    let failed = call_failed("fetch remote", repository);
    let remote = repository.remote.as_str();
    let (name, text) = match &repository.reference {
        None => ("HEAD", git.line(&["ls-remote", "--symref", "--", remote, "HEAD"]).await),
        Some(name) => {
            let peeled = format!("{name}^{{}}");
            (name.as_str(), git.line(&["ls-remote", "--", remote, name, &peeled]).await)
        }
    };
    let text = text.map_err(failed)?;
    let found = if name == "HEAD" { default_branch(&text) } else { choose(name, &text) };
    let missing = || GitError::NoSuchRef { remote: repository.shown(), name: name.to_owned() };
    let mut found = found.filter(|found| is_commit(&found.object)).ok_or_else(missing)?;
    let commits = [found.object.as_str(), found.commit()];
    if !repository.accepts(&commits) {
        let expected = repository.checksum.clone().unwrap_or_default();
        let actual = match &found.tagged {
            Some(commit) => format!("{} or {commit}", found.object),
            None => found.object,
        };
        return Err(GitError::Checksum { expected, actual });
    }
    if repository.git_dir == GitDir::Left
        && found.tagged.as_deref().is_some_and(|tag| !is_commit(tag))
    {
        found.tagged = None;
    }
    Ok(found)
}

/// Reads `ref: refs/heads/main<tab>HEAD` and `<commit><tab>HEAD`.
fn default_branch(text: &str) -> Option<Found> {
    let lines = || text.lines().filter_map(|line| line.split_once('\t'));
    let heads = || lines().filter(|(_, name)| *name == "HEAD").map(|(what, _)| what);
    let object = heads().find(|what| is_commit(what))?.to_owned();
    let name = heads().find_map(|what| what.strip_prefix("ref: ")).unwrap_or("HEAD").to_owned();
    Some(Found { name, object, tagged: None })
}

/// Chooses among the lines that match a name in some way: the full name, then a branch, then a tag.
fn choose(name: &str, text: &str) -> Option<Found> {
    let object = |wanted: &str| {
        let line = text.lines().filter_map(|line| line.split_once('\t'));
        line.filter(|(_, name)| *name == wanted).map(|(object, _)| object.to_owned()).next()
    };
    let within = |prefix: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
    let names = [within("refs/"), within("refs/heads/"), within("refs/tags/")];
    names.into_iter().find_map(|name| {
        let (whole, tagged) = (object(&name)?, object(&format!("{name}^{{}}")));
        Some(Found { object: whole, tagged, name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn a_branch_comes_before_a_tag() {
        let both = format!("{ONE}\trefs/tags/x\n{TWO}\trefs/heads/x\n{ONE}\trefs/heads/a/x\n");
        let found = choose("x", &both).unwrap();
        assert_eq!((found.name.as_str(), found.object.as_str()), ("refs/heads/x", TWO));
        let found = choose("refs/tags/x", &both).unwrap();
        assert_eq!((found.name.as_str(), found.object.as_str()), ("refs/tags/x", ONE));
        assert_eq!(choose("tags/x", &both).unwrap().name, "refs/tags/x");
        assert_eq!(choose("y", &both), None);
    }

    #[test]
    fn a_tag_with_a_message_is_two_objects() {
        let found =
            choose("v1", &format!("{ONE}\trefs/tags/v1\n{TWO}\trefs/tags/v1^{{}}\n")).unwrap();
        assert_eq!((found.object.as_str(), found.commit().as_str()), (ONE, TWO));
    }

    #[test]
    fn the_default_branch_is_named_if_the_server_says_so() {
        let found = default_branch(&format!("ref: refs/heads/dev\tHEAD\n{ONE}\tHEAD\n")).unwrap();
        assert_eq!((found.name.as_str(), found.object.as_str()), ("refs/heads/dev", ONE));
        assert_eq!(default_branch(&format!("{ONE}\tHEAD\n")).unwrap().name, "HEAD");
        assert_eq!(default_branch(""), None);
    }
}
