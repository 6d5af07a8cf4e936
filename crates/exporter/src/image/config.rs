//! The config of an image: what the frontend made of it, completed by what only the export knows.
//!
//! All of it is pure. Members that we do not know stay as they came.

use std::time::SystemTime;

use bytes::Bytes;
use digests::DiffId;
use oci::json::RawObject;
use oci::{History, ImageConfig, Platform, RootFs, Time};
use serde::Deserialize;

use crate::ExportError;
use crate::json_text::compact;

/// What marks entries of the history that were made up for layers that nobody described.
const MADE_UP: &str = "buildkit.exporter.image.v0";

/// The search path of images that say nothing, as everywhere.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The member that carries cache keys inside of an image.
const INLINE_CACHE: &str = "moby.buildkit.cache.v0";

/// What is known of a layer beside its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerFacts {
    pub(crate) diff_id: DiffId,
    pub(crate) description: String,
    pub(crate) created: SystemTime,
}

/// What completes a config.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion<'a> {
    /// The layers of the image, lowest first.
    pub(crate) layers: &'a [LayerFacts],
    /// Later times become this one, except those of the base image.
    pub(crate) epoch: Option<i64>,
    /// The config of the image this one was made from.
    pub(crate) base: Option<&'a ImageConfig>,
    /// Cache keys to be carried along, in base64.
    pub(crate) inline_cache: Option<&'a str>,
}

/// Returns the config of an image that nobody described.
pub(crate) fn default_config(platform: &Platform) -> Result<Bytes, ExportError> {
    let mut config = ImageConfig::for_platform(platform);
    "/".clone_into(&mut config.config.working_dir);
    if platform.os != "windows" {
        config.config.env.push(DEFAULT_PATH.to_owned());
    }
    let encoded = oci::json::encode(&config);
    Ok(encoded.map_err(ExportError::during("write image config"))?.into())
}

/// The members of a config that matter here.
#[derive(Debug, Default, Deserialize)]
struct Known {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    history: Option<Vec<History>>,
    #[serde(default)]
    created: Option<Time>,
}

/// Returns `config` with the layers it has and a history that accounts for all of them.
pub(crate) fn complete(config: &[u8], with: &Completion<'_>) -> Result<Bytes, ExportError> {
    let invalid = |reason: String| ExportError::Result(format!("invalid image config: {reason}"));
    let known: Known =
        serde_json::from_slice(config).map_err(|error| invalid(error.to_string()))?;
    let mut members: RawObject =
        serde_json::from_slice(config).map_err(|error| invalid(error.to_string()))?;
    for (name, value) in [("os", known.os), ("architecture", known.architecture)] {
        if value.is_none_or(|value| value.is_empty()) {
            return Err(invalid(format!("missing {name}")));
        }
    }
    let mut history = complete_history(known.history.unwrap_or_default(), with.layers);
    let epoch = with.epoch.map(Time::from_unix);
    if let Some(epoch) = epoch {
        cap_times(&mut history, epoch, with.base);
    }
    let encode = ExportError::during::<serde_json::Error>("write image config");
    let mut set = || -> serde_json::Result<Vec<u8>> {
        let diff_ids = with.layers.iter().map(|layer| layer.diff_id).collect();
        members.set("rootfs", &RootFs { diff_ids, ..RootFs::default() })?;
        match epoch.filter(|epoch| known.created.is_some_and(|created| created > *epoch)) {
            Some(epoch) => members.set("created", &epoch)?,
            None if members.0.contains_key("created") => {}
            None => {
                let newest = history.iter().rev().find_map(|entry| entry.created);
                members.set("created", &newest)?;
            }
        }
        members.set("history", &history)?;
        if let Some(cache) = with.inline_cache {
            members.set(INLINE_CACHE, &cache)?;
        }
        oci::json::encode(&members)
    };
    Ok(compact(&set().map_err(encode)?).into())
}

/// Returns a history with an entry for each layer, and a time in each entry.
fn complete_history(mut history: Vec<History>, layers: &[LayerFacts]) -> Vec<History> {
    let mut described = 0;
    for entry in &mut history {
        // More steps that made layers than there are layers: the rest made none.
        entry.empty_layer |= described >= layers.len();
        described += usize::from(!entry.empty_layer);
    }
    history.extend(layers[described..].iter().map(|layer| History {
        created: Some(layer.created.into()),
        created_by: layer.description.clone(),
        comment: MADE_UP.to_owned(),
        ..History::default()
    }));
    let made = history.iter_mut().filter(|entry| !entry.empty_layer);
    for (entry, layer) in made.zip(layers) {
        entry.created.get_or_insert_with(|| layer.created.into());
    }
    fill_times(&mut history);
    history
}

/// Gives entries without a time one: that of the last entry before that has one, except that those
/// before the first new layer get the time of that layer, not of the base image's last one.
fn fill_times(history: &mut [History]) {
    let first_without = history.iter().position(|entry| entry.created.is_none());
    let Some(first_without) = first_without else { return };
    let (before, after) = history.split_at(first_without);
    let next = after.iter().find_map(|entry| entry.created);
    let mut time = next.or_else(|| before.iter().rev().find_map(|entry| entry.created));
    for entry in &mut history[first_without..] {
        match entry.created {
            Some(created) => time = Some(created),
            None => entry.created = time,
        }
    }
}

/// Makes `epoch` of later times, and of none. What stems from the base image stays as it is.
fn cap_times(history: &mut [History], epoch: Time, base: Option<&ImageConfig>) {
    let inherited = base.map_or(&[][..], |base| &base.history);
    let same = history.iter().zip(inherited).take_while(|(ours, base)| ours == base).count();
    for entry in &mut history[same..] {
        entry.created = Some(entry.created.map_or(epoch, |created| created.min(epoch)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, UNIX_EPOCH};

    use digests::Digest;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn layer(number: u64) -> LayerFacts {
        LayerFacts {
            diff_id: DiffId::new(Digest::of(number.to_string())),
            description: format!("step {number}"),
            created: UNIX_EPOCH + Duration::from_secs(100 * number),
        }
    }

    /// Writes a history as `name@seconds`, with a `-` before entries without a layer.
    fn shown(history: &[History]) -> String {
        let entry = |entry: &History| {
            let mark = if entry.empty_layer { "-" } else { "" };
            let time = entry.created.map_or("?".to_owned(), |time| time.unix_seconds().to_string());
            format!("{mark}{}@{time}", entry.created_by)
        };
        history.iter().map(entry).collect::<Vec<_>>().join(" ")
    }

    fn history(text: &str) -> Vec<History> {
        let entry = |text: &str| {
            let (name, time) = text.split_once('@').unwrap();
            History {
                created: time.parse().ok().map(Time::from_unix),
                created_by: name.trim_start_matches('-').to_owned(),
                empty_layer: name.starts_with('-'),
                ..History::default()
            }
        };
        text.split_whitespace().map(entry).collect()
    }

    #[test]
    fn histories_account_for_all_layers() {
        for (given, layers, expected) in [
            ("", 0, ""),
            ("", 2, "step 1@100 step 2@200"),
            ("a@50", 2, "a@50 step 2@200"),
            ("a@50 b@?", 2, "a@50 b@200"),
            // Steps without layers before the first new layer are as old as that layer.
            ("a@50 -env@? b@? -cmd@?", 2, "a@50 -env@200 b@200 -cmd@200"),
            ("a@50 -env@?", 1, "a@50 -env@50"),
            ("-env@? a@?", 1, "-env@100 a@100"),
            ("-env@?", 0, "-env@?"),
            // More described than there is.
            ("a@1 b@2 c@3", 1, "a@1 -b@2 -c@3"),
            ("-x@? a@? -y@? b@? -z@?", 2, "-x@100 a@100 -y@100 b@200 -z@200"),
        ] {
            let layers: Vec<_> = (1..=layers).map(layer).collect();
            let completed = complete_history(history(given), &layers);
            assert_eq!(shown(&completed), expected, "{given:?} with {} layers", layers.len());
        }
    }

    #[test]
    fn made_up_entries_say_so() {
        let completed = complete_history(Vec::new(), &[layer(1)]);
        assert_eq!(completed[0].comment, "buildkit.exporter.image.v0");
    }

    #[test]
    fn times_are_capped_but_not_those_of_the_base() {
        let base = ImageConfig { history: history("a@500 -b@600"), ..ImageConfig::default() };
        let mut ours = history("a@500 -b@600 c@700 d@10 e@?");
        cap_times(&mut ours, Time::from_unix(400), Some(&base));
        assert_eq!(shown(&ours), "a@500 -b@600 c@400 d@10 e@400");
        let mut ours = history("x@500 -b@600");
        cap_times(&mut ours, Time::from_unix(400), Some(&base));
        assert_eq!(shown(&ours), "x@400 -b@400", "it is not made from the base");
    }

    fn completion(layers: &[LayerFacts]) -> Completion<'_> {
        Completion { layers, epoch: None, base: None, inline_cache: None }
    }

    #[test]
    fn a_config_is_completed_and_members_are_sorted() {
        let layers = [layer(1)];
        let with = Completion { inline_cache: Some("e30="), ..completion(&layers) };
        let config = br#"{ "os":"linux", "x": {"b" : 1, "a":"<&>"}, "architecture":"amd64" }"#;
        let completed = complete(config, &with).unwrap();
        let diff_id = layers[0].diff_id;
        let expected = format!(
            concat!(
                r#"{{"architecture":"amd64","created":"1970-01-01T00:01:40Z","#,
                r#""history":[{{"created":"1970-01-01T00:01:40Z","created_by":"step 1","#,
                r#""comment":"buildkit.exporter.image.v0"}}],"moby.buildkit.cache.v0":"e30=","#,
                r#""os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}},"#,
                r#""x":{{"b":1,"a":"\u003c\u0026\u003e"}}}}"#
            ),
            diff_id
        );
        assert_eq!(String::from_utf8_lossy(&completed), expected);
    }

    #[test]
    fn the_time_of_creation_is_capped_or_made() {
        let config = |created: Value| {
            let config = json!({"os": "linux", "architecture": "amd64", "created": created});
            serde_json::to_vec(&config).unwrap()
        };
        let created = |config: &[u8], epoch| {
            let with = Completion { epoch, ..completion(&[]) };
            let completed: Value =
                serde_json::from_slice(&complete(config, &with).unwrap()).unwrap();
            completed["created"].clone()
        };
        let late = config(json!("2020-01-01T00:00:00+02:00"));
        assert_eq!(created(&late, None), "2020-01-01T00:00:00+02:00");
        assert_eq!(created(&late, Some(0)), "1970-01-01T00:00:00Z");
        assert_eq!(created(&late, Some(2_000_000_000)), "2020-01-01T00:00:00+02:00");
        assert_eq!(created(&config(Value::Null), Some(0)), Value::Null);
        assert_eq!(created(br#"{"os":"linux","architecture":"amd64"}"#, Some(0)), Value::Null);
    }

    #[test]
    fn what_is_no_config_is_an_error() {
        for (config, reason) in [
            ("null", "invalid image config: "),
            ("[]", "invalid image config: "),
            ("{", "invalid image config: "),
            (r#"{"architecture":"amd64"}"#, "missing os"),
            (r#"{"os":"linux","architecture":""}"#, "missing architecture"),
            (r#"{"os":"linux","architecture":"amd64","created":"today"}"#, "today"),
        ] {
            let error = complete(config.as_bytes(), &completion(&[])).unwrap_err();
            assert!(error.to_string().contains(reason), "{config}: {error}");
        }
    }

    #[test]
    fn the_default_config_has_a_search_path() {
        let config = default_config(&Platform::new("linux", "arm64")).unwrap();
        let config: ImageConfig = serde_json::from_slice(&config).unwrap();
        assert_eq!((config.architecture.as_str(), config.os.as_str()), ("arm64", "linux"));
        assert_eq!(config.config.env, [DEFAULT_PATH]);
    }

    proptest! {
        #[test]
        fn members_that_are_not_ours_stay(
            unknown in proptest::collection::btree_map("[a-zA-Z.<é ]{1,8}", ".{0,8}", 0..6),
            count in 0u64..4,
            epoch in proptest::option::of(0i64..1000),
        ) {
            const OURS: [&str; 5] = ["created", "history", "rootfs", "os", "architecture"];
            let mut config: BTreeMap<String, Value> =
                unknown.into_iter().map(|(key, value)| (key, json!({ "nested": [value, 1.5e3] }))).collect();
            config.insert("os".to_owned(), json!("linux"));
            config.insert("architecture".to_owned(), json!("amd64"));
            let layers: Vec<_> = (0..count).map(layer).collect();
            let with = Completion { epoch, ..completion(&layers) };
            let completed = complete(&serde_json::to_vec(&config).unwrap(), &with).unwrap();
            let completed: BTreeMap<String, Value> = serde_json::from_slice(&completed).unwrap();
            for (key, value) in &config {
                prop_assert_eq!(completed.get(key), Some(value));
            }
            for key in completed.keys() {
                prop_assert!(config.contains_key(key) || OURS.contains(&key.as_str()));
            }
            prop_assert_eq!(completed["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(layers.len()));
            prop_assert_eq!(completed["history"].as_array().map(Vec::len), Some(layers.len()));
        }
    }
}
