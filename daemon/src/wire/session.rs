//! What a client says of itself when it opens its session (protocol page `session.md` §1).

use std::time::Duration;

use ::bridge::BuildError;
use gateway::wire::invalid;
use session::{Registration, SessionId};
use tonic::metadata::MetadataMap;

const ID: &str = "x-docker-expose-session-uuid";
const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const METHOD: &str = "x-docker-expose-session-grpc-method";
const HEALTH: &str = "x-buildkit-session-health-custom-timeout";

/// Returns the registration of a session from the metadata of its call.
pub(crate) fn registration(metadata: &MetadataMap) -> Result<Registration, BuildError> {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let id =
        text(ID).ok_or_else(|| invalid(format!("the session has no id: `{ID}` is missing")))?;
    let methods = metadata.get_all(METHOD).into_iter();
    let health = text(HEALTH).and_then(|milliseconds| milliseconds.parse().ok());
    Ok(Registration {
        id: SessionId::new(id).map_err(|error| invalid(error.to_string()))?,
        shared_key: text(SHARED_KEY).unwrap_or_default().to_owned(),
        methods: methods.filter_map(|method| method.to_str().ok().map(str::to_owned)).collect(),
        health_interval: health.map(Duration::from_millis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_who_it_is_and_what_it_serves() {
        let mut metadata = MetadataMap::new();
        metadata.insert(ID, "abc".parse().unwrap());
        metadata.insert(SHARED_KEY, "ctx:1".parse().unwrap());
        metadata.append(METHOD, "/a.B/C".parse().unwrap());
        metadata.append(METHOD, "/a.B/D".parse().unwrap());
        metadata.insert(HEALTH, "2500".parse().unwrap());
        let registration = registration(&metadata).unwrap();
        assert_eq!(registration.id.to_string(), "abc");
        assert_eq!(registration.shared_key, "ctx:1");
        assert_eq!(registration.methods, ["/a.B/C", "/a.B/D"]);
        assert_eq!(registration.health_interval, Some(Duration::from_millis(2500)));
    }

    #[test]
    fn a_session_without_an_id_is_refused() {
        let error = registration(&MetadataMap::new()).unwrap_err();
        assert!(error.message().contains(ID));
        let mut metadata = MetadataMap::new();
        metadata.insert(ID, "a b".parse().unwrap());
        assert!(registration(&metadata).is_err());
    }
}
