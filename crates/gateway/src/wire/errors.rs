//! Errors with what clients show beside them (protocol page `control.md` §9).
//!
//! Details are JSON in an `Any` whose type says so. Of several places the outermost comes first.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bridge::{BuildError, Detail, FailedPart, Kind};
use bytes::Bytes;
use progress::{Position, SourceExcerpt};
use prost_types::Any;
use proto::rpc;
use serde_json::{Map, Value, json};
use tonic::Code;

const PREFIX: &str = "github.com/moby/buildkit/";

/// Returns the code that a client knows. It prints all but `Unknown` before the message, so that is
/// what ordinary failures have.
pub const fn code(kind: Kind) -> Code {
    match kind {
        Kind::User | Kind::InvalidRequest | Kind::Denied => Code::Unknown,
        Kind::NotFound => Code::NotFound,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Cancelled => Code::Cancelled,
        Kind::TimedOut => Code::DeadlineExceeded,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Internal => Code::Internal,
    }
}

fn kind(code: Code) -> Kind {
    match code {
        Code::Cancelled => Kind::Cancelled,
        Code::DeadlineExceeded => Kind::TimedOut,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::Unimplemented => Kind::Unsupported,
        Code::Unavailable => Kind::Unavailable,
        Code::Internal | Code::DataLoss => Kind::Internal,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => Kind::User,
    }
}

/// Returns an error as a status with details.
pub fn to_rpc(error: &BuildError) -> rpc::Status {
    rpc::Status {
        code: code(error.kind()) as i32,
        message: error.message().to_owned(),
        details: error.details().iter().map(detail_to_wire).collect(),
    }
}

/// Returns what a client says went wrong. Its details are passed on as they came, but turned round: who reads an error
/// from the wire and writes it again writes the last one first, and so has the client done already.
pub fn from_rpc(status: rpc::Status) -> BuildError {
    let error = BuildError::new(kind(Code::from_i32(status.code)), status.message);
    status.details.into_iter().rev().fold(error, |error, detail| {
        let (type_url, value) = (detail.type_url, Bytes::from(detail.value));
        error.with_detail(Detail::Opaque { type_url, value })
    })
}

fn detail_to_wire(detail: &Detail) -> Any {
    let (name, value) = match detail {
        Detail::Source(excerpt) => ("errdefs.Source", source(excerpt)),
        Detail::Vertex(digest) => ("errdefs.Vertex", json!({ "digest": digest.to_string() })),
        Detail::Exit(code) => ("gatewayapi.ExitMessage", json!({ "Code": code })),
        Detail::Solve { op, input_ids, mount_ids, part, description } => {
            let mut fields = left(input_ids, mount_ids, description);
            fields.extend(llb::operation_json(op).filter(|_| !op.is_empty()).map(named("op")));
            fields.extend(part.map(subject));
            ("errdefs.Solve", Value::Object(fields))
        }
        Detail::Frontend { name, source } => {
            ("errdefs.Frontend", present([("name", name), ("source", source)]))
        }
        Detail::FrontendCapability(name) => ("errdefs.FrontendCap", present([("name", name)])),
        Detail::Subrequest(name) => ("errdefs.Subrequest", present([("name", name)])),
        Detail::Opaque { type_url, value } => {
            return Any { type_url: type_url.clone(), value: value.to_vec() };
        }
    };
    Any { type_url: format!("{PREFIX}{name}+json"), value: value.to_string().into_bytes() }
}

/// Returns an object of the texts that are not empty.
fn present<const N: usize>(fields: [(&str, &String); N]) -> Value {
    let present = fields.into_iter().filter(|(_, value)| !value.is_empty());
    present.map(|(name, value)| (name.to_owned(), Value::from(value.as_str()))).collect()
}

fn source(excerpt: &SourceExcerpt) -> Value {
    let mut info = Map::new();
    for (name, text) in [
        ("filename", excerpt.filename.clone()),
        ("data", STANDARD.encode(&excerpt.data)),
        ("language", excerpt.language.clone()),
    ] {
        if !text.is_empty() {
            info.insert(name.to_owned(), text.into());
        }
    }
    let ranges: Vec<Value> = excerpt
        .ranges
        .iter()
        .map(|range| json!({ "start": position(range.start), "end": position(range.end) }))
        .collect();
    json!({ "info": info, "ranges": ranges })
}

fn position(position: Position) -> Value {
    let numbers = [("line", position.line), ("character", position.character)];
    let present = numbers.into_iter().filter(|(_, number)| *number != 0);
    present.map(|(name, number)| (name.to_owned(), Value::from(number))).collect()
}

fn named(name: &'static str) -> impl Fn(Value) -> (String, Value) {
    move |value| (name.to_owned(), value)
}

/// Returns what tells which part of an operation failed; numbers of 64 bits are texts in this form.
fn subject(part: FailedPart) -> (String, Value) {
    let (name, place) = match part {
        FailedPart::Action(place) => ("file", place),
        FailedPart::Content(place) => ("cache", place),
    };
    let index = (place > 0).then(|| ("index".to_owned(), Value::from(place.to_string())));
    (name.to_owned(), Value::Object(index.into_iter().collect()))
}

fn left(
    inputs: &[String],
    mounts: &[String],
    description: &[(String, String)],
) -> Map<String, Value> {
    let mut fields = Map::new();
    if !inputs.is_empty() {
        fields.insert("inputIDs".to_owned(), inputs.into());
    }
    if !mounts.is_empty() {
        fields.insert("mountIDs".to_owned(), mounts.into());
    }
    if !description.is_empty() {
        let texts = description.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
        fields.insert("description".to_owned(), Value::Object(texts.collect()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use digests::{Digest, VertexDigest};
    use progress::Range;

    use super::*;

    fn shown(status: &rpc::Status) -> Vec<(String, String)> {
        let texts = status.details.iter().map(|detail| {
            (detail.type_url.clone(), String::from_utf8(detail.value.clone()).unwrap())
        });
        texts.collect()
    }

    #[test]
    fn details_have_the_names_and_the_json_that_clients_know() {
        let excerpt = SourceExcerpt {
            filename: "Dockerfile".to_owned(),
            language: "Dockerfile".to_owned(),
            data: Bytes::from_static(b"FROM x"),
            ranges: vec![Range::lines(3, 4)],
        };
        let digest = VertexDigest::new(Digest::of("v"));
        let solve = Detail::Solve {
            op: Bytes::new(),
            input_ids: vec!["i".to_owned()],
            mount_ids: Vec::new(),
            part: Some(FailedPart::Action(2)),
            description: vec![("a".to_owned(), "b".to_owned())],
        };
        let frontend = Detail::Frontend { name: "dockerfile.v0".to_owned(), source: String::new() };
        let error = BuildError::new(Kind::User, "process failed")
            .with_detail(Detail::Source(excerpt))
            .with_detail(solve)
            .with_detail(Detail::Vertex(digest))
            .with_detail(Detail::Exit(42))
            .with_detail(frontend)
            .with_detail(Detail::FrontendCapability("c".to_owned()))
            .with_detail(Detail::Subrequest("s".to_owned()));
        let status = to_rpc(&error);
        assert_eq!((status.code, &*status.message), (2, "process failed"));
        let vertex = format!("{{\"digest\":\"{digest}\"}}");
        let expected = [
            (
                "errdefs.Source",
                r#"{"info":{"data":"RlJPTSB4","filename":"Dockerfile","language":"Dockerfile"},"ranges":[{"end":{"line":4},"start":{"line":3}}]}"#,
            ),
            ("errdefs.Solve", r#"{"description":{"a":"b"},"file":{"index":"2"},"inputIDs":["i"]}"#),
            ("errdefs.Vertex", &vertex),
            ("gatewayapi.ExitMessage", r#"{"Code":42}"#),
            ("errdefs.Frontend", r#"{"name":"dockerfile.v0"}"#),
            ("errdefs.FrontendCap", r#"{"name":"c"}"#),
            ("errdefs.Subrequest", r#"{"name":"s"}"#),
        ];
        let expected = expected
            .map(|(name, json)| (format!("github.com/moby/buildkit/{name}+json"), json.to_owned()));
        assert_eq!(shown(&status), expected);
    }

    #[test]
    fn what_a_client_gives_back_is_passed_on_as_it_came() {
        let detail = |value: &[u8]| Any { type_url: "x/y+json".to_owned(), value: value.to_vec() };
        let (first, last) = (detail(b"{ \"odd\" : 1 }"), detail(b"{}"));
        let details = vec![first.clone(), last.clone()];
        let status = rpc::Status { code: 2, message: "m".to_owned(), details };
        let back = to_rpc(&from_rpc(status));
        assert_eq!((back.code, &*back.message), (2, "m"));
        assert_eq!(back.details, [last, first]);
    }

    #[test]
    fn codes_survive_the_way_through_a_client() {
        for code in [1, 2, 4, 5, 6, 8, 12, 13, 14] {
            let status = rpc::Status { code, message: String::new(), details: Vec::new() };
            assert_eq!(to_rpc(&from_rpc(status)).code, code);
        }
    }
}
