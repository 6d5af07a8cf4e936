//! JSON documents as lines of path and value, without what is different in every build.

use serde_json::Value;

use super::outcome::Outcome;

/// Keys whose values are times, sizes or names of one build.
const VOLATILE: [&str; 16] = [
    "created",
    "digest",
    "size",
    "buildx.build.ref",
    "containerimage.digest",
    "containerimage.config.digest",
    "org.opencontainers.image.created",
    "invocationId",
    "startedOn",
    "finishedOn",
    "buildInvocationID",
    "buildStartedOn",
    "buildFinishedOn",
    "vertex",
    "vnd.docker.reference.digest",
    "def",
];

/// Writes a document down at `place`.
pub(crate) fn describe(document: &Value, place: &str, outcome: &mut Outcome) {
    let mut lines = Vec::new();
    flatten(document, "", &mut lines);
    for line in lines {
        outcome.add(place, &line);
    }
}

fn flatten(value: &Value, path: &str, lines: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        // What the client had to be called with is part of these digests.
        Value::Object(map) if path.ends_with("digestMapping") => {
            let mut names: Vec<_> = map.values().map(Value::to_string).collect();
            names.sort();
            lines.extend(names.iter().map(|name| format!("{path} {name}")));
        }
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = below(key);
                if VOLATILE.contains(&key.as_str()) && !value.is_object() {
                    lines.push(format!("{path} ?"));
                } else {
                    flatten(value, &path, lines);
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                flatten(value, &below(&index.to_string()), lines);
            }
        }
        // The digest of an archive has the times of its files in it.
        Value::String(text) if path.starts_with("rootfs.diff_ids.") => {
            let kind = text.split(':').next().unwrap_or_default();
            lines.push(format!("{path} {kind}"));
        }
        _ => lines.push(format!("{path} {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_its_leaves() {
        let mut outcome = Outcome::default();
        let document = json!({"a": {"created": "now", "b": [1, "x"]}, "c": {}});
        describe(&document, "d", &mut outcome);
        assert_eq!(outcome.lines(), ["d: a.b.0 1", "d: a.b.1 \"x\"", "d: a.created ?", "d: c {}"]);
    }
}
