//! The texts of `/etc/hosts` and `/etc/resolv.conf` inside a container.

use std::net::IpAddr;

use crate::{DnsConfig, ExtraHost};

/// Where the host's resolver configuration is.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd keeps the one that does not point at its own loopback resolver.
const UPSTREAM_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";
const SYSTEMD_STUB: &str = "127.0.0.53";
/// Used when the host has no name server that a container could reach.
const FALLBACK: [&str; 4] = ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"];

/// Returns the text of `/etc/hosts`.
pub(super) fn hosts(hostname: &str, extra: &[ExtraHost]) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for host in extra {
        text += &format!("{}\t{}\n", host.address, host.name);
    }
    text
}

/// Reads the host's configuration and returns the text of `/etc/resolv.conf` for a container.
pub(super) fn resolv_conf(dns: &DnsConfig, own_network: bool) -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut host = read(RESOLV_CONF);
    if own_network && nameservers(&host) == [SYSTEMD_STUB] {
        host = read(UPSTREAM_RESOLV_CONF);
    }
    resolv_conf_from(&host, dns, own_network)
}

fn nameservers(text: &str) -> Vec<&str> {
    let words = text.lines().map(|line| line.split_whitespace());
    words.filter_map(|mut line| (line.next()? == "nameserver").then(|| line.next())?).collect()
}

fn resolv_conf_from(host: &str, dns: &DnsConfig, own_network: bool) -> String {
    let mut servers: Vec<String> = nameservers(host).into_iter().map(str::to_owned).collect();
    let (mut search, mut options, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for line in host.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            // The last such line counts.
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            Some("options") => options = words.map(str::to_owned).collect(),
            None | Some("nameserver") => {}
            Some(word) if word.starts_with(['#', ';']) => {}
            Some(_) => others.push(line.trim().to_owned()),
        }
    }
    let replace = |ours: &Vec<String>, theirs: &mut Vec<String>| {
        if !ours.is_empty() {
            theirs.clone_from(ours);
        }
    };
    replace(&dns.nameservers, &mut servers);
    replace(&dns.search, &mut search);
    replace(&dns.options, &mut options);
    if own_network {
        servers.retain(|server| !is_loopback(server));
    }
    if servers.is_empty() {
        servers = FALLBACK.map(str::to_owned).to_vec();
    }
    // A lone dot says that there is no search list.
    search.retain(|domain| domain != ".");
    let mut lines: Vec<String> =
        servers.iter().map(|server| format!("nameserver {server}")).collect();
    for (word, values) in [("search", search), ("options", options)] {
        if !values.is_empty() {
            lines.push(format!("{word} {}", values.join(" ")));
        }
    }
    lines.extend(others);
    lines.join("\n") + "\n"
}

fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or(server);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.1\nsearch a b\n\
        options ndots:2\nsortlist 1.2.3.4\n";

    #[test]
    fn loopback_servers_are_kept_where_they_can_be_reached() {
        let host = resolv_conf_from(HOST, &DnsConfig::default(), false);
        assert!(host.starts_with("nameserver 127.0.0.1\nnameserver 10.0.0.1\n"), "{host}");
        let own = resolv_conf_from(HOST, &DnsConfig::default(), true);
        assert_eq!(own, "nameserver 10.0.0.1\nsearch a b\noptions ndots:2\nsortlist 1.2.3.4\n");
    }

    #[test]
    fn a_container_always_has_a_server() {
        let own = resolv_conf_from("nameserver ::1\n", &DnsConfig::default(), true);
        assert!(own.starts_with("nameserver 8.8.8.8\n"), "{own}");
    }

    #[test]
    fn the_configuration_replaces_what_it_names() {
        let dns = DnsConfig {
            nameservers: vec!["9.9.9.9".to_owned()],
            search: vec![".".to_owned()],
            ..DnsConfig::default()
        };
        let text = resolv_conf_from(HOST, &dns, true);
        assert_eq!(text, "nameserver 9.9.9.9\noptions ndots:2\nsortlist 1.2.3.4\n");
    }

    #[test]
    fn hosts_names_itself_and_the_extra_ones() {
        let extra = ExtraHost { name: "db".to_owned(), address: "10.1.2.3".parse().unwrap() };
        let text = hosts("box", &[extra]);
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb\n"
        );
    }
}
