//! Names of signals.

const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED",
];

/// Returns true for a number or a name, with or without `SIG`.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || is_real_time(name)
}

fn is_real_time(name: &str) -> bool {
    let within = |rest: &str, sign, last| match rest.strip_prefix(sign) {
        None => rest.is_empty(),
        Some(number) => (1..=last).any(|known: u8| known.to_string() == number),
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => within(rest, '+', 15),
        (None, Some(rest)) => within(rest, '-', 14),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for text in ["9", "SIGTERM", "term", "RTMIN", "SIGRTMIN+3", "RTMAX-14"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "SIGFOO", "RTMIN+16", "RTMIN+01", "RTMAX-0", "RTMAX--1", "SIG"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
