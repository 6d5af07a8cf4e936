//! Where a registry's API is: its own address, and its mirrors'.

use std::net::Ipv4Addr;

use url::Url;

use crate::{HostConfig, RegistryConfig, RegistryError};

const HUB: &str = "docker.io";
const HUB_ADDRESS: &str = "registry-1.docker.io";

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// One address at which a registry's repositories can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port to connect to. Credentials and tokens are for it.
    pub(crate) address: String,
    /// The entry of the configuration that has its TLS settings.
    pub(crate) settings: String,
    /// What to speak, first choice first.
    pub(crate) schemes: &'static [Scheme],
    /// A path before the repository, with a slash at its end; empty at a registry itself.
    prefix: String,
    /// The registry that a mirror is asked to stand for.
    namespace: Option<String>,
}

/// Returns the addresses to pull from, in order: the mirrors of `host`, then itself.
pub(crate) fn to_pull(config: &RegistryConfig, host: &str) -> Result<Vec<Endpoint>, RegistryError> {
    let mirrors = config.hosts.get(host).map_or(&[][..], |settings| &settings.mirrors);
    let mut endpoints = Vec::with_capacity(mirrors.len() + 1);
    for mirror in mirrors {
        endpoints.push(self::mirror(config, host, mirror)?);
    }
    endpoints.push(to_push(config, host));
    Ok(endpoints)
}

/// Returns the address of the registry itself.
pub(crate) fn to_push(config: &RegistryConfig, host: &str) -> Endpoint {
    let address = if host == HUB { HUB_ADDRESS } else { host };
    Endpoint {
        address: address.to_owned(),
        settings: host.to_owned(),
        schemes: schemes(address, config.hosts.get(host), false),
        prefix: String::new(),
        namespace: None,
    }
}

fn mirror(config: &RegistryConfig, host: &str, text: &str) -> Result<Endpoint, RegistryError> {
    let (plain, rest) = match text.split_once("://") {
        None => (false, text),
        Some(("http", rest)) => (true, rest),
        Some(("https", rest)) => (false, rest),
        Some(_) => return Err(bad_mirror(host, text)),
    };
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let endpoint = Endpoint {
        address: if address == HUB { HUB_ADDRESS } else { address }.to_owned(),
        settings: address.to_owned(),
        schemes: schemes(address, config.hosts.get(address), plain),
        prefix,
        namespace: Some(host.to_owned()),
    };
    match endpoint.url(Scheme::Https, "x", "") {
        Some(_) => Ok(endpoint),
        None => Err(bad_mirror(host, text)),
    }
}

fn bad_mirror(host: &str, text: &str) -> RegistryError {
    let problem = format!("its mirror `{text}` is not a host with an optional port and path");
    RegistryError::Config { host: host.to_owned(), problem }
}

impl Endpoint {
    /// Returns the address of `path` (`manifests/latest`) of a repository; none if it is no URL.
    pub(crate) fn url(&self, scheme: Scheme, repository: &str, path: &str) -> Option<Url> {
        let Self { address, prefix, .. } = self;
        let text = format!("{}://{address}/v2/{prefix}{repository}/{path}", scheme.name());
        let mut url = Url::parse(&text).ok()?;
        // An address that is more or less than a host and a port would be read as something else.
        if !url.path().starts_with("/v2/") || !url.username().is_empty() || url.query().is_some() {
            return None;
        }
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Some(url)
    }
}

fn schemes(address: &str, settings: Option<&HostConfig>, plain: bool) -> &'static [Scheme] {
    let insecure = settings.is_some_and(|settings| settings.insecure);
    match settings.and_then(|settings| settings.http).or_else(|| plain.then_some(true)) {
        Some(false) => &[Scheme::Https],
        Some(true) if insecure => &[Scheme::Https, Scheme::Http],
        Some(true) => &[Scheme::Http],
        None if is_loopback(address) => &[Scheme::Https, Scheme::Http],
        None => &[Scheme::Https],
    }
}

/// Returns true for an address that never leaves the machine.
pub(crate) fn is_loopback(address: &str) -> bool {
    let host = match address.strip_prefix('[') {
        Some(rest) => return rest.split(']').next() == Some("::1"),
        None => address.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Returns true if what is secret between us and `from` may be told to `to`.
pub(crate) fn same_party(from: &Url, to: &Url) -> bool {
    if from.host() != to.host() {
        return false;
    }
    let ports = (from.port_or_known_default(), to.port_or_known_default());
    let upgraded = from.scheme() == "http" && to.scheme() == "https";
    (from.scheme() == to.scheme() && ports.0 == ports.1)
        || (upgraded && ports == (Some(80), Some(443)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hosts: &[(&str, HostConfig)]) -> RegistryConfig {
        let hosts = hosts.iter().map(|(host, settings)| ((*host).to_owned(), settings.clone()));
        RegistryConfig { hosts: hosts.collect(), ..RegistryConfig::default() }
    }

    fn mirrored(mirrors: &[&str]) -> HostConfig {
        let mirrors = mirrors.iter().map(|mirror| (*mirror).to_owned()).collect();
        HostConfig { mirrors, ..HostConfig::default() }
    }

    fn first_url(endpoint: &Endpoint) -> String {
        endpoint.url(endpoint.schemes[0], "library/busybox", "manifests/latest").unwrap().into()
    }

    #[test]
    fn mirrors_come_first_and_may_have_a_path() {
        let plain = HostConfig { http: Some(true), ..HostConfig::default() };
        let settings = mirrored(&["a.example:5000/hub/", "b.example", "http://c.example/x/y"]);
        let config = config(&[("docker.io", settings), ("b.example", plain)]);
        let urls: Vec<_> = to_pull(&config, "docker.io").unwrap().iter().map(first_url).collect();
        assert_eq!(
            urls,
            [
                "https://a.example:5000/v2/hub/library/busybox/manifests/latest?ns=docker.io",
                "http://b.example/v2/library/busybox/manifests/latest?ns=docker.io",
                "http://c.example/v2/x/y/library/busybox/manifests/latest?ns=docker.io",
                "https://registry-1.docker.io/v2/library/busybox/manifests/latest",
            ]
        );
    }

    #[test]
    fn a_mirror_that_is_no_host_is_refused_by_name() {
        for bad in ["", "ftp://x", "a b", "/path", "user:word@host"] {
            let error =
                to_pull(&config(&[("a.example", mirrored(&[bad]))]), "a.example").unwrap_err();
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn loopback_hosts_may_do_without_tls() {
        let settings = |http, insecure| HostConfig { http, insecure, ..HostConfig::default() };
        let both: &[Scheme] = &[Scheme::Https, Scheme::Http];
        for (host, settings, expected) in [
            ("localhost:5000", settings(None, false), both),
            ("127.0.0.1", settings(None, false), both),
            ("127.8.8.8:1", settings(None, true), both),
            ("[::1]:5000", settings(None, false), both),
            ("localhost", settings(Some(false), false), &[Scheme::Https]),
            ("localhost.example", settings(None, false), &[Scheme::Https]),
            ("a.example", settings(None, true), &[Scheme::Https]),
            ("a.example", settings(Some(true), false), &[Scheme::Http]),
            ("a.example", settings(Some(true), true), both),
        ] {
            let endpoint = to_push(&config(&[(host, settings)]), host);
            assert_eq!(endpoint.schemes, expected, "{host}");
        }
    }

    #[test]
    fn secrets_stay_with_their_host() {
        let same =
            |from: &str, to: &str| same_party(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(same("https://a/v2/", "https://a:443/other"));
        assert!(same("http://a/", "https://a/"));
        for (from, to) in [
            ("https://a/", "https://b/"),
            ("https://a/", "http://a/"),
            ("https://a/", "https://a:444/"),
            ("http://a:5000/", "https://a/"),
            ("https://a.example/", "https://x.a.example/"),
        ] {
            assert!(!same(from, to), "{from} {to}");
        }
    }
}
