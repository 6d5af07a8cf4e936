//! What can build, and what may be asked of it (protocol page `control.md` §5, §8).

use bridge::WorkerInfo;
use llb::caps::{self, Capability};
use oci::Platform;
use proto::{apicaps, gateway, pb, worker};

/// Returns the answer to a frontend's first question.
pub fn pong(workers: &[WorkerInfo]) -> gateway::PongResponse {
    gateway::PongResponse {
        frontend_api_caps: caps::FRONTEND.iter().map(capability).collect(),
        llb_caps: caps::LLB.iter().map(capability).collect(),
        workers: workers.iter().map(brief).collect(),
    }
}

/// Returns what everybody may know of a worker.
pub fn brief(info: &WorkerInfo) -> worker::WorkerRecord {
    worker::WorkerRecord {
        id: info.id.clone(),
        labels: info.labels.clone(),
        platforms: info.platforms.iter().cloned().map(platform_to_wire).collect(),
        ..Default::default()
    }
}

/// Returns a worker as a frontend sees it.
pub fn worker(wire: worker::WorkerRecord) -> WorkerInfo {
    WorkerInfo {
        id: wire.id,
        labels: wire.labels,
        platforms: wire.platforms.into_iter().map(platform_from_wire).collect(),
    }
}

/// Returns a platform for the wire.
pub fn platform_to_wire(platform: Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        os_version: platform.os_version,
        os_features: platform.os_features,
    }
}

/// Returns a platform, spelled in the one way that there is.
pub fn platform_from_wire(wire: pb::Platform) -> Platform {
    Platform {
        architecture: wire.architecture,
        os: wire.os,
        variant: wire.variant,
        os_version: wire.os_version,
        os_features: wire.os_features,
    }
    .normalized()
}

fn capability(capability: &Capability) -> apicaps::ApiCap {
    apicaps::ApiCap {
        id: capability.id.to_owned(),
        enabled: true,
        deprecated: capability.deprecated,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_of_capabilities_are_there_and_enabled() {
        let platforms = vec![Platform::new("linux", "amd64"), Platform::new("linux", "386")];
        let known = WorkerInfo { id: "w".to_owned(), labels: Default::default(), platforms };
        let pong = pong(std::slice::from_ref(&known));
        assert_eq!((pong.frontend_api_caps.len(), pong.llb_caps.len()), (24, 88));
        assert!(pong.frontend_api_caps.iter().chain(&pong.llb_caps).all(|cap| cap.enabled));
        let [record] = &pong.workers[..] else { panic!("one worker") };
        let again = worker(record.clone());
        assert_eq!((again.id, again.platforms), (known.id, known.platforms));
    }
}
