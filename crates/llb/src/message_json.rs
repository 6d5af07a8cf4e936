//! An operation as the JSON of its message, in the form that clients read back (protojson).
//!
//! It is what documents of graphs have, but for what these take from the code of somebody's: fields of which
//! a message has only one are in the message itself, and the inputs are the operation's own.

use prost::Message as _;
use proto::pb;
use serde_json::{Map, Value, json};

use crate::document::operation;

/// Fields of documents that stand for a choice of fields.
const CHOICES: [&str; 3] = ["Op", "Action", "User"];

/// Returns an operation, as it was received, as JSON; none if it cannot be read.
pub fn operation_json(bytes: &[u8]) -> Option<Value> {
    let op = pb::Op::decode(bytes).ok()?;
    let mut message = flattened(operation(&op));
    if let (false, Some(fields)) = (op.inputs.is_empty(), message.as_object_mut()) {
        // Numbers of 64 bits are texts in this form.
        let input = |input: &pb::Input| match input.index {
            0 => json!({ "digest": input.digest }),
            index => json!({ "digest": input.digest, "index": index.to_string() }),
        };
        fields.insert("inputs".to_owned(), op.inputs.iter().map(input).collect());
    }
    Some(message)
}

fn flattened(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut flat = Map::new();
            for (name, value) in fields {
                match flattened(value) {
                    Value::Object(chosen) if CHOICES.contains(&name.as_str()) => {
                        flat.extend(chosen);
                    }
                    value if name == "byId" => drop(flat.insert("byID".to_owned(), value)),
                    value => drop(flat.insert(name, value)),
                }
            }
            Value::Object(flat)
        }
        Value::Array(list) => list.into_iter().map(flattened).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ExecOptions, FileActions, ImageOptions, MakeDir, OpOptions, Owner, Platform, State,
    };

    fn last(state: &State) -> Value {
        let platform = Platform { os: "linux".into(), ..Platform::default() };
        let definition = state.marshal(&platform).unwrap();
        // The very last only names the result.
        let ops = definition.ops();
        operation_json(&ops[ops.len() - 2]).unwrap()
    }

    #[test]
    fn a_message_has_its_choices_in_itself() {
        let base = State::image("app", ImageOptions::default(), OpOptions::default());
        let args = vec!["true".to_owned()];
        let run = ExecOptions { args, cwd: "/w".to_owned(), ..ExecOptions::default() };
        let message = last(&base.run(run, OpOptions::default()).root());
        assert_eq!(message["exec"]["meta"]["args"], json!(["true"]));
        assert_eq!(message["exec"]["mounts"][0]["dest"], "/");
        assert_eq!(message["platform"]["OS"], "linux");
        let digest = message["inputs"][0]["digest"].as_str().unwrap();
        assert!(digest.starts_with("sha256:"), "{message}");
        let make =
            MakeDir { path: "/d".to_owned(), owner: Some(Owner::parse("7")), ..MakeDir::default() };
        let message = last(&base.file(FileActions::new().make_dir(make), OpOptions::default()));
        let action = &message["file"]["actions"][0];
        assert_eq!(action["mkdir"]["path"], "/d");
        assert_eq!(action["mkdir"]["owner"]["user"], json!({ "byID": 7 }));
        assert!(operation_json(b"\xff").is_none());
    }
}
