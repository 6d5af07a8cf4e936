//! What a builder says in the environment (protocol page `gateway.md` §5).

use std::collections::BTreeMap;
use std::ffi::OsString;

use bridge::WorkerInfo;
use oci::Platform;
use serde::Deserialize;

const OPTION: &str = "BUILDKIT_FRONTEND_OPT_";
const SESSION: &str = "BUILDKIT_SESSION_ID";
const WORKERS: &str = "BUILDKIT_WORKERS";

/// What the frontend is asked to do, and for whom.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The options of the build by name.
    pub options: BTreeMap<String, String>,
    /// The session of the client; empty if there is none.
    pub session: String,
    /// What can build, for builders that do not say so when asked.
    pub workers: Vec<WorkerInfo>,
}

/// A worker as it is written in the environment.
#[derive(Debug, Deserialize)]
struct Worker {
    #[serde(default)]
    id: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platforms: Option<Vec<Platform>>,
}

impl Environment {
    /// Reads the variables of a process. What is not for us, or no text, is passed over.
    pub fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            if let (Some(name), Ok(value)) = (name.to_str(), value.into_string()) {
                environment.read(name, value);
            }
        }
        environment
    }

    fn read(&mut self, name: &str, value: String) {
        if name.starts_with(OPTION) {
            // The number after the prefix only keeps them apart.
            if let Some((key, value)) = value.split_once('=') {
                self.options.insert(key.to_owned(), value.to_owned());
            }
        } else if name == SESSION {
            self.session = value;
        } else if name == WORKERS {
            // Builders answer the same when asked; this is what older ones have.
            let workers: Vec<Worker> = serde_json::from_str(&value).unwrap_or_default();
            self.workers = workers.into_iter().map(Worker::into_info).collect();
        }
    }
}

impl Worker {
    fn into_info(self) -> WorkerInfo {
        let platforms = self.platforms.unwrap_or_default();
        WorkerInfo {
            id: self.id,
            labels: self.labels.unwrap_or_default(),
            platforms: platforms.into_iter().map(Platform::normalized).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Environment::from_variables(variables)
    }

    #[test]
    fn options_are_split_at_their_first_equals_sign() {
        let read = read(&[
            ("BUILDKIT_FRONTEND_OPT_0", "build-arg:A=b=c"),
            ("BUILDKIT_FRONTEND_OPT_17", "target="),
            ("BUILDKIT_FRONTEND_OPT_2", "no equals sign"),
            ("BUILDKIT_SESSION_ID", "s"),
            ("PATH", "/bin"),
        ]);
        let options = [("build-arg:A", "b=c"), ("target", "")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read.options, BTreeMap::from(options));
        assert_eq!(read.session, "s");
    }

    #[test]
    fn workers_are_read_with_what_they_are_known_by() {
        let workers = r#"[{"id":"w","labels":null,"platforms":[{"architecture":"x86_64","os":"linux"}],"gcPolicy":[],"x":1}]"#;
        let environment = read(&[("BUILDKIT_WORKERS", workers)]);
        let [worker] = &environment.workers[..] else { panic!("one worker") };
        assert_eq!((&*worker.id, worker.platforms[0].to_string()), ("w", "linux/amd64".to_owned()));
        assert!(read(&[("BUILDKIT_WORKERS", "nonsense")]).workers.is_empty());
    }
}
