//! Ports as `EXPOSE` takes them: `80`, `80-90/udp`.

use std::net::IpAddr;

use super::super::ConfigError;

/// A range of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports {
    /// Each as `80/tcp`.
    pub(super) ports: Vec<String>,
    /// Whether the protocol was not in lower case.
    pub(super) upper_case: bool,
    /// Whether an address or a port of the host was given: they have no meaning.
    pub(super) has_host: bool,
}

/// Reads `[[address:]port:]port[-port][/protocol]`.
pub(super) fn parse(text: &str) -> Result<Ports, ConfigError> {
    let (host, address) = match text.rsplit_once(':') {
        None => ("", text),
        Some((host, port)) => (host, port),
    };
    let (ip, host_port) = host.rsplit_once(':').unwrap_or(("", host));
    let invalid = |reason: String| ConfigError::Port { port: text.to_owned(), reason };
    let (range, protocol) = address.split_once('/').unwrap_or((address, ""));
    if range.is_empty() {
        return Err(invalid("no port specified".to_owned()));
    }
    let lower = match protocol.to_lowercase() {
        empty if empty.is_empty() => "tcp".to_owned(),
        known if matches!(known.as_str(), "tcp" | "udp" | "sctp") => known,
        _ => return Err(invalid(format!("invalid proto: {protocol}"))),
    };
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(ConfigError::PortPart { part: "IP address", text: ip.to_owned() });
    }
    let wrong = |part, text: &str| ConfigError::PortPart { part, text: text.to_owned() };
    let (first, last) = port_range(range).ok_or_else(|| wrong("containerPort", range))?;
    if !host_port.is_empty() {
        let (from, to) = port_range(host_port).ok_or_else(|| wrong("hostPort", host_port))?;
        if last - first != to - from && first != last {
            let text = format!("{range} and {host_port}");
            let part = "ranges specified for container and host Ports";
            return Err(ConfigError::PortPart { part, text });
        }
    }
    Ok(Ports {
        ports: (first..=last).map(|port| format!("{port}/{lower}")).collect(),
        upper_case: protocol != protocol.to_lowercase(),
        has_host: !ip.is_empty() || !host_port.is_empty(),
    })
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = text.starts_with(|c: char| c.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<Vec<String>, String> {
        parse(text).map(|found| found.ports).map_err(|error| error.to_string())
    }

    #[test]
    fn ranges_become_single_ports() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("80-82/UDP").unwrap(), ["80/udp", "81/udp", "82/udp"]);
        assert!(parse("80/UDP").unwrap().upper_case);
        assert!(parse("127.0.0.1:8080:80").unwrap().has_host);
        assert_eq!(ports("[::1]:1:80/sctp").unwrap(), ["80/sctp"]);
        assert_eq!(ports("8000-9000:80").unwrap(), ["80/tcp"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("x", "invalid containerPort: x"),
            ("90-80", "invalid containerPort: 90-80"),
            ("70000", "invalid containerPort: 70000"),
            ("+80", "invalid containerPort: +80"),
            ("a:80", "invalid hostPort: a"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(ports(text).unwrap_err(), expected, "{text}");
        }
    }
}
