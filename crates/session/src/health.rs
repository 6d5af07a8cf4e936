//! Finding out that a client is there, and that it is gone although its connection looks open.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::SessionId;
use crate::call::ORIGIN;
use crate::connection::Channel;

/// How often a client is asked, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HealthPolicy {
    interval: Duration,
    /// The least time an answer may take: a slow line is not a dead one.
    patience: Duration,
    /// That many missing answers in a row mean that nobody is there.
    failures: u32,
}

impl HealthPolicy {
    /// Returns the usual policy, or the one a client asked for.
    pub(crate) fn new(custom: Option<Duration>) -> Self {
        match custom {
            Some(asked) => {
                let time = asked.max(Duration::from_secs(1));
                Self { interval: time, patience: time, failures: 1 }
            }
            None => Self {
                interval: Duration::from_secs(5),
                patience: Duration::from_secs(15),
                failures: 2,
            },
        }
    }
}

/// Asks the client again and again; sets `heard` when it has answered, and returns when it is to be given up.
pub(crate) async fn watch(
    id: SessionId,
    channel: Channel,
    policy: HealthPolicy,
    heard: CancellationToken,
) {
    let mut client = HealthClient::with_origin(channel, ORIGIN.clone());
    let mut missing = 0;
    let mut last = Duration::ZERO;
    loop {
        let patience = policy.patience.max(last.mul_f64(1.5));
        let begun = Instant::now();
        let request = HealthCheckRequest { service: String::new() };
        let answer = tokio::time::timeout(patience, client.check(request)).await;
        last = begun.elapsed();
        missing = match answer {
            Ok(Ok(_)) => 0,
            // Somebody is there to say so.
            Ok(Err(status)) if status.code() == Code::Unimplemented => 0,
            Ok(Err(_)) | Err(_) => missing + 1,
        };
        if missing == 0 {
            heard.cancel();
        }
        if missing >= policy.failures {
            tracing::warn!(session.id = %id, "session dropped: the client does not answer");
            return;
        }
        tokio::time::sleep(policy.interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_ask_for_its_own_pace_but_not_below_a_second() {
        let asked = HealthPolicy::new(Some(Duration::from_millis(10)));
        assert_eq!(asked.interval, Duration::from_secs(1));
        assert_eq!(asked.failures, 1);
        assert_eq!(HealthPolicy::new(None).interval, Duration::from_secs(5));
    }
}
