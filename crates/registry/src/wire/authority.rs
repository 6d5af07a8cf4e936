//! What proves who is asking: kept per host, asker and scope, and got anew when it is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use parking_lot::Mutex;
use reqwest::Client;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::tokens;
use crate::{Access, Attempt, Login, RegistryError, Secret, Timing};

/// How long a password is used before its owner is asked for it again.
const PASSWORD_LIFE: Duration = Duration::from_secs(600);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(5);
/// From how many kept grants on those that have ended are thrown out.
const MANY: usize = 256;

/// Keeps what registries want to know and what was granted to whom.
#[derive(Debug, Default)]
pub(super) struct Authority {
    challenges: Mutex<HashMap<Asker, Challenge>>,
    grants: Mutex<HashMap<Wish, Arc<Slot>>>,
}

/// Who asks whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asker {
    address: String,
    identity: String,
}

/// Who asks whom, and for which scopes.
type Wish = (Asker, Vec<String>);

/// One grant. Whoever holds the lock is getting it; the others wait for the result.
type Slot = tokio::sync::Mutex<Option<Grant>>;

/// The value of an `Authorization` header, and until when it is good.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    header: HeaderValue,
    until: Instant,
}

impl Grant {
    /// Returns a grant of a bearer token; none if the token cannot be in a header.
    pub(super) fn bearer(token: &Secret, life: Duration) -> Option<Self> {
        Self::new(format!("Bearer {}", token.expose()), life.saturating_sub(MARGIN))
    }

    fn basic(login: &Login) -> Option<Self> {
        Self::new(basic(login), PASSWORD_LIFE)
    }

    fn new(header: String, life: Duration) -> Option<Self> {
        let mut header = HeaderValue::try_from(header).ok()?;
        header.set_sensitive(true);
        let now = Instant::now();
        Some(Self { header, until: now.checked_add(life).unwrap_or(now) })
    }
}

/// Returns name and password as the header has them.
pub(super) fn basic(login: &Login) -> String {
    let pair = format!("{}:{}", login.username, login.secret.expose());
    format!("Basic {}", STANDARD.encode(pair))
}

/// Who asks, where, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Petition<'a> {
    pub(super) client: &'a Client,
    pub(super) timing: &'a Timing,
    /// The registry's address.
    pub(super) address: &'a str,
    pub(super) access: &'a Access,
    pub(super) scopes: &'a [String],
    /// What it is all about.
    pub(super) attempt: &'a Attempt,
}

impl Petition<'_> {
    fn asker(&self) -> Asker {
        let identity = self.access.credentials().identity().to_owned();
        Asker { address: self.address.to_owned(), identity }
    }
}

impl Authority {
    /// Returns what to send with a first request: nothing until the registry has once wanted to know.
    pub(super) async fn known(
        &self,
        petition: Petition<'_>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let challenge = self.challenges.lock().get(&petition.asker()).cloned();
        match challenge {
            None => Ok(None),
            Some(challenge) => self.granted(petition, &challenge, None).await,
        }
    }

    /// Returns what to send after the registry has refused `refused`; none if there is nothing.
    pub(super) async fn answer(
        &self,
        petition: Petition<'_>,
        challenge: &Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let lasting = match challenge.clone() {
            Challenge::Basic => Challenge::Basic,
            // What one repository needs is not what the next one does.
            Challenge::Bearer { realm, service, .. } => {
                Challenge::Bearer { realm, service, scope: String::new() }
            }
        };
        self.challenges.lock().insert(petition.asker(), lasting);
        self.granted(petition, challenge, refused).await
    }

    async fn granted(
        &self,
        petition: Petition<'_>,
        challenge: &Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let slot = self.slot((petition.asker(), petition.scopes.to_vec()));
        let mut slot = slot.lock().await;
        if let Some(grant) = slot.as_ref()
            && grant.until > Instant::now()
            && refused != Some(&grant.header)
        {
            return Ok(Some(grant.header.clone()));
        }
        *slot = match challenge {
            Challenge::Basic => {
                let login = petition.access.credentials().login(petition.address).await?;
                login.as_ref().and_then(Grant::basic)
            }
            Challenge::Bearer { realm, service, scope } => {
                let scopes = merged(petition.scopes, scope);
                Some(tokens::fetch(petition, realm, service, scopes).await?)
            }
        };
        Ok(slot.as_ref().map(|grant| grant.header.clone()))
    }

    fn slot(&self, key: Wish) -> Arc<Slot> {
        let mut grants = self.grants.lock();
        if grants.len() >= MANY {
            let now = Instant::now();
            grants.retain(|_, slot| {
                // Whoever is waiting for a grant holds its lock.
                slot.try_lock()
                    .map_or(true, |grant| grant.as_ref().is_some_and(|grant| grant.until > now))
            });
            let askers: HashSet<Asker> = grants.keys().map(|(asker, _)| asker.clone()).collect();
            self.challenges.lock().retain(|asker, _| askers.contains(asker));
        }
        grants.entry(key).or_default().clone()
    }
}

/// Returns all of `scopes` and of `more` (separated by spaces), with the actions on each resource
/// together: `repository:a/b:pull` and `repository:a/b:push` are `repository:a/b:pull,push`.
fn merged(scopes: &[String], more: &str) -> Vec<String> {
    let mut actions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for scope in scopes.iter().map(String::as_str).chain(more.split_whitespace()) {
        let (resource, allowed) = scope.rsplit_once(':').unwrap_or((scope, ""));
        let allowed = allowed.split(',').filter(|action| !action.is_empty());
        actions.entry(resource).or_default().extend(allowed);
    }
    actions
        .into_iter()
        .map(|(resource, actions)| {
            let actions: Vec<_> = actions.into_iter().collect();
            if actions.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}:{}", actions.join(","))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_on_one_resource_come_together() {
        let scopes = ["repository:a/b:push,pull", "repository:c:pull"].map(str::to_owned);
        assert_eq!(
            merged(&scopes, "repository:c:push  repository:a/b:pull registry:catalog:*"),
            ["registry:catalog:*", "repository:a/b:pull,push", "repository:c:pull,push"]
        );
        assert_eq!(merged(&[], "word"), ["word"]);
    }
}
