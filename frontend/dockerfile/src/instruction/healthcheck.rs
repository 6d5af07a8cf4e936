//! `HEALTHCHECK`.

use std::time::Duration;

use super::InstructionError;
use super::duration::parse_duration;
use super::flag::{Flags, Takes};
use crate::number::signed;
use crate::quote::quoted;
use crate::syntax::{Arguments, Node};

/// How a container's health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthcheckSpec {
    /// `NONE`; or `CMD` or `CMD-SHELL` and the command.
    pub test: Vec<String>,
    /// The time between checks.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// How long a container may take to start.
    pub start_period: Duration,
    /// The time between checks while it starts.
    pub start_interval: Duration,
    /// How many checks must fail.
    pub retries: i64,
}

const FLAGS: [(&str, Takes); 5] = [
    ("interval", Takes::Text),
    ("timeout", Takes::Text),
    ("start-period", Takes::Text),
    ("start-interval", Takes::Text),
    ("retries", Takes::Text),
];

pub(super) fn read(node: &Node) -> Result<HealthcheckSpec, InstructionError> {
    let Arguments::Health(kind, rest) = &node.arguments else {
        return Err(InstructionError::at_least_one("HEALTHCHECK"));
    };
    let wrong = |text: String| InstructionError::Healthcheck(text);
    let kind = kind.to_uppercase();
    let arguments = rest.to_list();
    if kind == "NONE" {
        if !arguments.is_empty() {
            return Err(wrong("HEALTHCHECK NONE takes no arguments".to_owned()));
        }
        return Ok(HealthcheckSpec { test: vec![kind], ..HealthcheckSpec::default() });
    }
    let flags = Flags::read(&node.flags, &FLAGS)?;
    if kind != "CMD" {
        return Err(wrong(format!("Unknown type {} in HEALTHCHECK (try CMD)", quoted(&kind))));
    }
    if arguments.is_empty() {
        return Err(wrong("Missing command after HEALTHCHECK CMD".to_owned()));
    }
    let form = if rest.is_json() { "CMD" } else { "CMD-SHELL" };
    let mut test = vec![form.to_owned()];
    test.extend(arguments);
    let time = |name: &str| interval(&flags, name).map_err(wrong);
    Ok(HealthcheckSpec {
        test,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries: retries(&flags).map_err(wrong)?,
    })
}

fn interval(flags: &Flags, name: &str) -> Result<Duration, String> {
    let text = flags.text(name).unwrap_or_default();
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let time = parse_duration(text)?;
    let is_short = text.starts_with('-') || time < Duration::from_millis(1);
    if is_short && !time.is_zero() {
        return Err(format!("Interval {} cannot be less than 1ms", quoted(name)));
    }
    Ok(time)
}

fn retries(flags: &Flags) -> Result<i64, String> {
    let text = flags.text("retries").unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    let number: i32 = signed(text)?;
    if number < 0 {
        return Err(format!("--retries cannot be negative ({number})"));
    }
    Ok(i64::from(number))
}
