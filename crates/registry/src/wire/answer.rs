//! Reading what a registry answers.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use reqwest::Response;
use serde::Deserialize;
use tokio::time::timeout;

use super::transport::Failure;
use crate::{Attempt, RegistryError, Timing};

/// How much of an answer that is an error is read.
const ERROR_LIMIT: u64 = 64 << 10;
/// How much of an error's text is passed on.
const LONGEST_MESSAGE: usize = 1000;

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(
    mut response: Response,
    limit: u64,
    timing: &Timing,
    attempt: &Attempt,
) -> Result<Bytes, Failure> {
    let too_long = || {
        let problem = format!("the answer has more than {limit} bytes");
        Failure::Final(RegistryError::Garbage { attempt: Box::new(attempt.clone()), problem })
    };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let mut body = BytesMut::new();
    loop {
        let chunk = timeout(timing.stall, response.chunk())
            .await
            .map_err(|_| Failure::Stalled(timing.stall))?
            .map_err(Failure::of)?;
        let Some(chunk) = chunk else { return Ok(body.freeze()) };
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
}

/// Returns the error that an answer stands for. `name` is what is not there if it says so.
pub(super) async fn refusal(
    attempt: &Attempt,
    name: &str,
    response: Response,
    timing: &Timing,
) -> RegistryError {
    let status = response.status();
    let message = message(response, timing, attempt).await;
    let attempt = Box::new(attempt.clone());
    match status {
        StatusCode::NOT_FOUND if !attempt.action.is_push() => {
            RegistryError::NotFound { name: name.to_owned() }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            RegistryError::Denied { attempt, message: or_status(message, status) }
        }
        other => RegistryError::Status { attempt, status: other.as_u16(), message },
    }
}

/// Returns `message`, or the name of the status if it says nothing.
pub(super) fn or_status(message: String, status: StatusCode) -> String {
    if !message.is_empty() {
        return message;
    }
    status.canonical_reason().unwrap_or("no reason given").to_lowercase()
}

/// Returns what a registry has to say about an error; empty if it says nothing that we understand.
pub(super) async fn message(response: Response, timing: &Timing, attempt: &Attempt) -> String {
    match read_body(response, ERROR_LIMIT, timing, attempt).await {
        Ok(body) => message_in(&body),
        Err(_) => String::new(),
    }
}

fn message_in(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problems {
        #[serde(default)]
        errors: Vec<Problem>,
        /// Some token services and proxies say it this way.
        #[serde(default, alias = "details", alias = "error_description")]
        message: String,
    }
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(problems) = serde_json::from_slice::<Problems>(body) else { return String::new() };
    let texts = problems.errors.into_iter().map(|problem| {
        if problem.message.is_empty() { problem.code.to_lowercase() } else { problem.message }
    });
    let text = texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    let text = if text.is_empty() { problems.message } else { text };
    let printable = text.chars().filter(|character| !character.is_control());
    printable.take(LONGEST_MESSAGE).collect()
}

/// Returns the media type that an answer states, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let stated = headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    let stated = stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!stated.is_empty()).then_some(stated)
}

/// Returns the digest that an answer states, if it is one that we compute.
pub(super) fn stated_digest(headers: &HeaderMap) -> Option<digests::Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_errors_are_joined() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b such luck","detail":{}},{"code":"UNKNOWN"}]}"#;
        assert_eq!(message_in(body), "no such luck; unknown");
        assert_eq!(
            message_in(br#"{"details":"incorrect username or password"}"#),
            "incorrect username or password"
        );
    }

    #[test]
    fn what_is_not_json_says_nothing() {
        for body in [&b"<html>"[..], b"", b"[]", b"{\"errors\":{}}"] {
            assert_eq!(message_in(body), "");
        }
    }
}
