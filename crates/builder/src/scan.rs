//! Lists of what is in a result, for results of which nobody else has made any.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge::{BuildError, FrontendResult, ResultPlatforms, Results, SolvedRef};
use llb::{Definition, State};
use oci::Platform;
use sbom::{ScanRequest, ScanTarget, Scanner};

use crate::job::{JobBridge, Shared};

/// Has each platform of a result scanned by the image that the client asks for, unless the frontend has done
/// so already. What is left of it is read with what the frontend says.
pub(crate) async fn scan(
    bridge: &Arc<JobBridge>,
    request: &ScanRequest,
    platforms: &ResultPlatforms,
    frontend: &mut FrontendResult,
) -> Result<(), BuildError> {
    let native = bridge.default_platform();
    let trees = trees(bridge, platforms, &native, &frontend.results);
    if trees.is_empty() || sbom::is_scanned(frontend) {
        return Ok(());
    }
    let shared = Shared(bridge.clone());
    let scanner = Scanner::find(&shared, request, &native).await?;
    for (platform, definition) in trees {
        let target = ScanTarget {
            platform: platform.clone(),
            tree: State::definition(&definition),
            extras: BTreeMap::new(),
            ignore_cache: request.ignores_cache(),
        };
        let attestation = scanner.scan(&shared, target).await?;
        frontend.attestations.entry(platform).or_default().push(attestation);
    }
    Ok(())
}

/// Returns the graphs of the trees of a result by platform. In an empty tree there is nothing to be found.
fn trees(
    bridge: &JobBridge,
    platforms: &ResultPlatforms,
    native: &Platform,
    results: &Results,
) -> Vec<(String, Definition)> {
    let trees = match results {
        Results::None => Vec::new(),
        Results::Single(solved) => {
            let only = platforms.platforms.first().map(|entry| entry.id.clone());
            vec![(only.unwrap_or_else(|| native.to_string()), solved)]
        }
        Results::ByPlatform(all) => {
            all.iter().map(|(platform, solved)| (platform.clone(), solved)).collect()
        }
    };
    let graph = |(platform, solved): (String, &SolvedRef)| {
        let definition = bridge.definition(&solved.handle)?;
        (!definition.is_empty()).then_some((platform, definition))
    };
    trees.into_iter().filter_map(graph).collect()
}
