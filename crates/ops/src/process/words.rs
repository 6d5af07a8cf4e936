//! The graph's words for processes, as the executor's.

use std::net::IpAddr;

use executor::{Network, Security};
use llb::{ExtraHost, NetMode, SecretEnv, SecurityMode};
use solver::OpError;

use crate::clients::Clients;
use crate::{OperationError, failure};

/// Returns what a process can reach.
pub(crate) const fn network(mode: NetMode) -> Network {
    match mode {
        NetMode::Sandbox => Network::Sandbox,
        NetMode::Host => Network::Host,
        NetMode::None => Network::None,
    }
}

/// Returns what a process may do.
pub(crate) const fn security(mode: SecurityMode) -> Security {
    match mode {
        SecurityMode::Sandbox => Security::Sandbox,
        SecurityMode::Insecure => Security::Insecure,
    }
}

/// Returns more lines for `/etc/hosts`.
pub(crate) fn extra_hosts(hosts: &[ExtraHost]) -> Result<Vec<executor::ExtraHost>, OpError> {
    let parsed = hosts.iter().map(|host| {
        let address: IpAddr = host.ip.parse().map_err(|_| {
            let text = format!("extra host `{}` has no valid address `{}`", host.host, host.ip);
            failure(OperationError::Unsupported(text))
        })?;
        Ok(executor::ExtraHost { name: host.host.clone(), address })
    });
    parsed.collect()
}

/// Returns variables with the values that the client has for them.
pub(crate) async fn secret_env(
    clients: &Clients,
    wanted: &[SecretEnv],
) -> Result<Vec<String>, OpError> {
    let mut env = Vec::with_capacity(wanted.len());
    for secret in wanted {
        let value = match clients.secret(&secret.id).await? {
            Some(value) => String::from_utf8_lossy(value.expose()).into_owned(),
            None if secret.optional => String::new(),
            None => return Err(failure(OperationError::Secret(secret.id.clone()))),
        };
        env.push(format!("{}={value}", secret.name));
    }
    Ok(env)
}
