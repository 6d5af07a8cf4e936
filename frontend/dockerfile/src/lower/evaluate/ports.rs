//! Ports as `EXPOSE` takes them: `80`, `80-90/udp`.

use std::net::IpAddr;

use super::super::ConfigError;

/// A port as written, in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortSpec<'a> {
    address: &'a str,
    host_range: &'a str,
    range: &'a str,
    protocol: &'a str,
}

impl<'a> PortSpec<'a> {
    /// Splits `[[address:]port:]port[-port][/protocol]`.
    pub(super) fn split(text: &'a str) -> Result<Self, ConfigError> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let (address, host_range) = host.rsplit_once(':').unwrap_or(("", host));
        let (range, protocol) = port.split_once('/').unwrap_or((port, ""));
        let invalid = |reason: String| ConfigError::Port { port: text.to_owned(), reason };
        if range.is_empty() {
            return Err(invalid("no port specified".to_owned()));
        }
        if !matches!(protocol.to_lowercase().as_str(), "" | "tcp" | "udp" | "sctp") {
            return Err(invalid(format!("invalid proto: {protocol}")));
        }
        Ok(Self { address, host_range, range, protocol })
    }

    /// Returns whether the protocol is not in lower case.
    pub(super) fn is_upper_case(&self) -> bool {
        self.protocol != self.protocol.to_lowercase()
    }

    /// Returns whether an address or a port of the host was given: they have no meaning.
    pub(super) const fn has_host(&self) -> bool {
        !self.address.is_empty() || !self.host_range.is_empty()
    }

    /// Returns each port as `80/tcp`.
    pub(super) fn ports(&self) -> Result<Vec<String>, ConfigError> {
        let Self { address, host_range, range, protocol } = *self;
        let wrong = |part, text: &str| ConfigError::PortPart { part, text: text.to_owned() };
        let bare = address.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(address);
        if !address.is_empty() && bare.parse::<IpAddr>().is_err() {
            return Err(wrong("IP address", address));
        }
        let (first, last) = port_range(range).ok_or_else(|| wrong("containerPort", range))?;
        if !host_range.is_empty() {
            let found = port_range(host_range).ok_or_else(|| wrong("hostPort", host_range))?;
            if last - first != found.1 - found.0 && first != last {
                let part = "ranges specified for container and host Ports";
                return Err(wrong(part, &format!("{range} and {host_range}")));
            }
        }
        let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
        Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<Vec<String>, String> {
        PortSpec::split(text).and_then(|spec| spec.ports()).map_err(|error| error.to_string())
    }

    #[test]
    fn ranges_become_single_ports() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("80-82/UDP").unwrap(), ["80/udp", "81/udp", "82/udp"]);
        assert!(PortSpec::split("80/UDP").unwrap().is_upper_case());
        assert!(PortSpec::split("127.0.0.1:8080:80").unwrap().has_host());
        assert_eq!(ports("+80").unwrap(), ["80/tcp"], "a sign has always been let pass");
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
            ("a:80", "invalid hostPort: a"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(ports(text).unwrap_err(), expected, "{text}");
        }
    }
}
