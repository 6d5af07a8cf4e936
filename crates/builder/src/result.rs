//! From what a frontend returned to what is exported and remembered.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use bridge::{Attestation, BuildError, FrontendResult, Kind, ResultPlatforms, Results, keys};
use bytes::Bytes;
use cache::ImmutableRef;
use exporter::{ExportRefs, ExportResult, Statement};
use futures::future::{join_all, try_join_all};
use llb::Definition;
use oci::{Descriptor, Platform};
use progress::Event;

use crate::BuildRequest;
use crate::history::{HistoryRecord, HistoryResult};
use crate::job::{Found, JobBridge, Wanted};
use crate::provenance::{self, Made, ProvenanceOptions};

/// The built file systems of a result, by platform id; an empty id for the only one.
pub(crate) type Built = BTreeMap<String, (ImmutableRef, Option<Definition>)>;

/// Builds all file systems of a result.
pub(crate) async fn evaluate(
    bridge: &Arc<JobBridge>,
    results: &Results,
) -> Result<Built, BuildError> {
    let wanted = match results {
        Results::None => Vec::new(),
        Results::Single(solved) => vec![(String::new(), solved)],
        Results::ByPlatform(all) => {
            all.iter().map(|(platform, solved)| (platform.clone(), solved)).collect()
        }
    };
    let built = wanted.into_iter().map(|(platform, solved)| async move {
        let result = bridge.result(&solved.handle).await?;
        let definition = bridge.definition(&solved.handle);
        Ok::<_, BuildError>((platform, (result, definition)))
    });
    Ok(try_join_all(built).await?.into_iter().collect())
}

/// What a result is made of.
pub(crate) struct Facts<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) frontend: &'a FrontendResult,
    /// Which platforms it has.
    pub(crate) platforms: &'a ResultPlatforms,
    /// The build that has all its graphs.
    pub(crate) bridge: &'a JobBridge,
    /// What the engine found of them.
    pub(crate) found: &'a Found,
    pub(crate) started: SystemTime,
}

impl Facts<'_> {
    /// Returns the graphs of what is said of the result, by platform.
    fn attested(&self) -> BTreeMap<&str, Vec<Definition>> {
        let graphs = |list: &[Attestation]| {
            list.iter().filter_map(|one| self.bridge.definition(&one.tree.handle)).collect()
        };
        let attested = self.frontend.attestations.iter();
        attested.map(|(platform, list)| (platform.as_str(), graphs(list))).collect()
    }
}

/// Returns which platforms a result has, as far as its frontend says so.
pub(crate) fn platforms(frontend: &FrontendResult) -> Result<ResultPlatforms, BuildError> {
    let Some(bytes) = frontend.metadata.get(keys::PLATFORMS) else {
        return Ok(ResultPlatforms::default());
    };
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!("invalid result: metadata `{}`: {error}", keys::PLATFORMS);
        BuildError::new(Kind::InvalidRequest, text)
    })
}

/// What was said of a result, by platform.
pub(crate) type Statements = BTreeMap<String, Vec<Statement>>;

/// The same as it is kept: the type of each predicate, and what it says.
pub(crate) type Said = BTreeMap<String, Vec<(String, Bytes)>>;

/// Returns what statements say by now.
pub(crate) async fn read(statements: &Statements) -> Said {
    let mut said = Said::new();
    for (platform, list) in statements {
        let read = list
            .iter()
            .map(|one| async { (one.predicate_type.clone(), one.predicate.read().await) });
        said.insert(platform.clone(), join_all(read).await);
    }
    said
}

/// Returns what the engine found that the statement about a result tells.
pub(crate) async fn found(bridge: &JobBridge, provenance: Option<&ProvenanceOptions>) -> Found {
    let for_the_record = ProvenanceOptions::for_the_record();
    let tells_steps = provenance.unwrap_or(&for_the_record).tells_steps();
    bridge.found(if tells_steps { Wanted::Yes } else { Wanted::No }).await
}

/// Returns the result in the form that exporters take, and what the record of the build keeps: statements are
/// made for it also if nobody asked for them in the result. `said` is what the frontend says of the result.
pub(crate) fn assemble(
    facts: &Facts<'_>,
    mut built: Built,
    provenance: Option<&ProvenanceOptions>,
    mut said: Statements,
) -> Result<(ExportResult, Statements), BuildError> {
    let platforms = facts.platforms;
    let find = |id: &str| {
        let found = platforms.platforms.iter().find(|entry| entry.id == id);
        found.map(|entry| entry.platform.clone())
    };
    let single = platforms.platforms.first().map(|entry| entry.platform.clone());
    let single = single.unwrap_or_else(|| facts.bridge.default_platform());
    let mut export = ExportResult {
        metadata: facts.frontend.metadata.clone(),
        source_date_epoch: epoch(facts.request)?,
        ..ExportResult::default()
    };
    let for_the_record = ProvenanceOptions::for_the_record();
    let options = provenance.unwrap_or(&for_the_record);
    let made = statements(facts, &built, options, &single);
    export.attestations.clone_from(&said);
    for (platform, statements) in made {
        if provenance.is_some() {
            let exported = export.attestations.entry(platform.clone()).or_default();
            exported.extend(statements.iter().cloned());
        }
        said.entry(platform).or_default().extend(statements);
    }
    export.refs = match &facts.frontend.results {
        Results::ByPlatform(_) => {
            let mut refs = BTreeMap::new();
            for (id, (result, _)) in built {
                let platform = find(&id).ok_or_else(|| {
                    let text = format!("invalid result: no platform for `{id}`");
                    BuildError::new(Kind::InvalidRequest, text)
                })?;
                refs.insert(id, (result, platform));
            }
            ExportRefs::ByPlatform(refs)
        }
        Results::None | Results::Single(_) => {
            let result = built.remove("").map(|(result, _)| result).unwrap_or_default();
            ExportRefs::Single(result, single)
        }
    };
    Ok((export, said))
}

fn statements(
    facts: &Facts<'_>,
    built: &Built,
    options: &ProvenanceOptions,
    single: &Platform,
) -> Statements {
    let mut statements = Statements::new();
    let is_result = |asked: &Definition| {
        built.values().any(|(_, definition)| definition.as_ref() == Some(asked))
    };
    let mut asked = facts.bridge.definitions();
    asked.retain(|asked| !is_result(asked));
    let attested = facts.attested();
    let here = facts.bridge.default_platform().short();
    for (id, (_, definition)) in built {
        // Nothing comes from nowhere.
        let Some(definition) = definition.as_ref().filter(|definition| !definition.is_empty())
        else {
            continue;
        };
        let platform = if id.is_empty() { single.short() } else { id.clone() };
        // A scan is made from the result that it is of: another platform's result is not made from that.
        let of_others = attested.iter().filter(|(other, _)| **other != platform);
        let of_others: Vec<_> = of_others.flat_map(|(_, graphs)| graphs).collect();
        let beside: Vec<_> = asked.iter().filter(|asked| !of_others.contains(asked)).collect();
        let statement = provenance::statement(
            options,
            &provenance::Facts {
                reference: &facts.request.reference,
                options: &facts.request.options,
                definition: Some(definition),
                beside: &beside,
                pins: &facts.found.pins,
                made: Some(Made { refs: facts.bridge.refs(), results: &facts.found.made }),
                platform: &here,
                started: facts.started,
                finished: SystemTime::now(),
            },
        );
        statements.entry(platform).or_default().push(statement);
    }
    statements
}

fn epoch(request: &BuildRequest) -> Result<Option<i64>, BuildError> {
    let Some(text) = request.options.get("build-arg:SOURCE_DATE_EPOCH") else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let text = format!("invalid SOURCE_DATE_EPOCH {text:?}: expected seconds since 1970");
        BuildError::new(Kind::InvalidRequest, text)
    })
}

/// What was delivered, for the record.
pub(crate) struct Delivered<'a> {
    pub(crate) response: &'a BTreeMap<String, String>,
    pub(crate) metadata: &'a BTreeMap<String, Bytes>,
    pub(crate) export: &'a ExportResult,
    pub(crate) statements: &'a Said,
}

/// Writes into the record what a build delivered.
pub(crate) fn describe(record: &mut HistoryRecord, delivered: Delivered<'_>) {
    record.metadata = delivered
        .metadata
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), std::str::from_utf8(value).ok()?.to_owned())))
        .collect();
    let platforms: BTreeSet<String> = match &delivered.export.refs {
        ExportRefs::Single(..) => BTreeSet::from([String::new()]),
        ExportRefs::ByPlatform(refs) => refs.keys().cloned().collect(),
    };
    let descriptor = delivered.response.get("containerimage.descriptor");
    let descriptor: Option<Descriptor> = descriptor.and_then(|text| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        serde_json::from_slice(&bytes).ok()
    });
    for platform in platforms {
        let mut result = HistoryResult::default();
        result.descriptors.extend(descriptor.clone().map(|blob| (0, blob)));
        record.results.insert(platform.clone(), result);
    }
    for (platform, statements) in delivered.statements {
        let single = record.results.contains_key("");
        let place = if single { String::new() } else { platform.clone() };
        for (kind, said) in statements {
            record.pending.push((place.clone(), kind.clone(), said.to_vec()));
        }
    }
}

/// Counts the steps of a build.
pub(crate) fn count(record: &mut HistoryRecord, events: &[Event]) {
    let (mut all, mut cached, mut completed) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut warnings = 0;
    for event in events {
        match event {
            Event::Vertex(vertex) => {
                all.insert(vertex.digest);
                if vertex.completed.is_some() {
                    completed.insert(vertex.digest);
                }
                if vertex.cached {
                    cached.insert(vertex.digest);
                } else {
                    cached.remove(&vertex.digest);
                }
            }
            Event::Warning(_) => warnings += 1,
            Event::Status(_) | Event::Log(_) => {}
        }
    }
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    record.total_steps = number(all.len());
    record.cached_steps = number(cached.len());
    record.completed_steps = number(completed.len());
    record.warnings = warnings;
}
