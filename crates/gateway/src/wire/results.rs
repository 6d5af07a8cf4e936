//! What frontends make, in both directions (protocol page `gateway.md` §2).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bridge::{
    Attestation, AttestationKind, BuildError, FrontendResult, InTotoSubject, RefHandle, Results,
    SolvedRef, SubjectKind,
};
use bytes::Bytes;
use proto::gateway;
use proto::gateway::result::Result as Refs;

use super::{definition, invalid};

/// Returns a result for a client. Old clients know references by their ids only.
pub fn to_result(result: FrontendResult, with_definitions: bool) -> gateway::Result {
    let refs = match (result.results, with_definitions) {
        (Results::None, _) => Refs::Ref(gateway::Ref::default()),
        (Results::Single(solved), true) => Refs::Ref(reference(solved)),
        (Results::Single(solved), false) => Refs::RefDeprecated(id_of(&solved)),
        (Results::ByPlatform(solved), true) => {
            let refs = solved.into_iter().map(|(key, solved)| (key, reference(solved)));
            Refs::Refs(gateway::RefMap { refs: refs.collect() })
        }
        (Results::ByPlatform(solved), false) => {
            let refs = solved.into_iter().map(|(key, solved)| (key, id_of(&solved)));
            Refs::RefsDeprecated(gateway::RefMapDeprecated { refs: refs.collect() })
        }
    };
    let attestations = result.attestations.into_iter().map(|(key, list)| {
        let attestation = list.into_iter().map(attestation_to_wire).collect();
        (key, gateway::Attestations { attestation })
    });
    gateway::Result {
        metadata: result.metadata,
        attestations: attestations.collect(),
        result: Some(refs),
    }
}

fn id_of(solved: &SolvedRef) -> String {
    solved.handle.as_str().to_owned()
}

fn reference(solved: SolvedRef) -> gateway::Ref {
    gateway::Ref {
        id: id_of(&solved),
        def: solved.definition.map(|definition| definition.to_wire()),
    }
}

/// Returns the result that a frontend gives back. References are known by their ids alone.
pub fn from_result(wire: gateway::Result) -> Result<FrontendResult, BuildError> {
    result(wire, |wire| Ok(SolvedRef { handle: RefHandle::new(wire.id), ..SolvedRef::default() }))
}

/// Returns the result that a daemon gives out, with the graphs that it comes from.
pub fn given_result(wire: gateway::Result) -> Result<FrontendResult, BuildError> {
    result(wire, |wire| {
        let definition = wire.def.map(definition).transpose()?;
        Ok(SolvedRef { handle: RefHandle::new(wire.id), definition })
    })
}

fn result(
    wire: gateway::Result,
    solved: impl Fn(gateway::Ref) -> Result<SolvedRef, BuildError>,
) -> Result<FrontendResult, BuildError> {
    let by_id = |id| gateway::Ref { id, def: None };
    let results = match wire.result {
        None => Results::None,
        Some(Refs::Ref(one)) => Results::Single(solved(one)?),
        Some(Refs::RefDeprecated(id)) => Results::Single(solved(by_id(id))?),
        Some(Refs::Refs(map)) => {
            let refs = map.refs.into_iter().map(|(key, one)| Ok((key, solved(one)?)));
            Results::ByPlatform(refs.collect::<Result<_, BuildError>>()?)
        }
        Some(Refs::RefsDeprecated(map)) => {
            let refs = map.refs.into_iter().map(|(key, id)| Ok((key, solved(by_id(id))?)));
            Results::ByPlatform(refs.collect::<Result<_, BuildError>>()?)
        }
    };
    let mut attestations = BTreeMap::new();
    for (key, list) in wire.attestations {
        let list = list.attestation.into_iter().map(|one| attestation_from_wire(one, &solved));
        attestations.insert(key, list.collect::<Result<_, _>>()?);
    }
    Ok(FrontendResult { results, metadata: wire.metadata, attestations })
}

/// Returns what a frontend that does not know `Return` says about its last graph: JSON, in which the values
/// are base64.
pub fn last_metadata(attributes: &[u8]) -> Result<BTreeMap<String, Bytes>, BuildError> {
    if attributes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = |reason: String| invalid(format!("the result's metadata cannot be read: {reason}"));
    let encoded: Option<BTreeMap<String, String>> =
        serde_json::from_slice(attributes).map_err(|error| wrong(error.to_string()))?;
    let decoded = encoded.unwrap_or_default().into_iter().map(|(key, value)| {
        let value = STANDARD.decode(value).map_err(|error| wrong(error.to_string()))?;
        Ok((key, value.into()))
    });
    decoded.collect()
}

fn attestation_to_wire(attestation: Attestation) -> gateway::Attestation {
    let kind = match attestation.kind {
        AttestationKind::InToto => gateway::AttestationKind::InToto,
        AttestationKind::Bundle => gateway::AttestationKind::Bundle,
    };
    gateway::Attestation {
        kind: kind.into(),
        metadata: attestation.metadata,
        r#ref: Some(reference(attestation.tree)),
        path: attestation.path,
        in_toto_predicate_type: attestation.predicate_type,
        in_toto_subjects: attestation.subjects.iter().map(subject_to_wire).collect(),
    }
}

fn attestation_from_wire(
    wire: gateway::Attestation,
    solved: impl Fn(gateway::Ref) -> Result<SolvedRef, BuildError>,
) -> Result<Attestation, BuildError> {
    let kind = match gateway::AttestationKind::try_from(wire.kind) {
        Ok(gateway::AttestationKind::InToto) => AttestationKind::InToto,
        Ok(gateway::AttestationKind::Bundle) => AttestationKind::Bundle,
        Err(_) => return Err(invalid(format!("unknown kind of attestation {}", wire.kind))),
    };
    let subjects = wire.in_toto_subjects.into_iter().map(subject_from_wire);
    Ok(Attestation {
        kind,
        metadata: wire.metadata,
        tree: solved(wire.r#ref.unwrap_or_default())?,
        path: wire.path,
        predicate_type: wire.in_toto_predicate_type,
        subjects: subjects.collect::<Result<_, _>>()?,
    })
}

fn subject_to_wire(subject: &InTotoSubject) -> gateway::InTotoSubject {
    let kind = match subject.kind {
        SubjectKind::Itself => gateway::InTotoSubjectKind::Self_,
        SubjectKind::Raw => gateway::InTotoSubjectKind::Raw,
    };
    gateway::InTotoSubject {
        kind: kind.into(),
        digest: subject.digests.iter().map(ToString::to_string).collect(),
        name: subject.name.clone(),
    }
}

fn subject_from_wire(wire: gateway::InTotoSubject) -> Result<InTotoSubject, BuildError> {
    let kind = match gateway::InTotoSubjectKind::try_from(wire.kind) {
        Ok(gateway::InTotoSubjectKind::Self_) => SubjectKind::Itself,
        Ok(gateway::InTotoSubjectKind::Raw) => SubjectKind::Raw,
        Err(_) => return Err(invalid(format!("unknown kind of subject {}", wire.kind))),
    };
    let digests = wire.digest.iter().map(|digest| digest.parse());
    let digests = digests.collect::<Result<_, digests::DigestError>>();
    let digests = digests.map_err(|error| invalid(error.to_string()))?;
    Ok(InTotoSubject { kind, digests, name: wire.name })
}

#[cfg(test)]
mod tests {
    use digests::Digest;
    use llb::Definition;

    use super::*;

    fn solved(id: &str) -> SolvedRef {
        SolvedRef { handle: RefHandle::new(id), definition: Some(Definition::empty()) }
    }

    fn result(results: Results) -> FrontendResult {
        let attestation = Attestation {
            kind: AttestationKind::Bundle,
            metadata: [("reason".to_owned(), Bytes::from_static(b"sbom"))].into(),
            tree: solved("r"),
            path: "/sbom".to_owned(),
            predicate_type: "https://spdx.dev/Document".to_owned(),
            subjects: vec![
                InTotoSubject {
                    kind: SubjectKind::Raw,
                    digests: vec![Digest::of("x")],
                    name: "x".to_owned(),
                },
                InTotoSubject {
                    kind: SubjectKind::Itself,
                    digests: Vec::new(),
                    name: String::new(),
                },
            ],
        };
        FrontendResult {
            results,
            metadata: [("k".to_owned(), Bytes::from_static(b"v"))].into(),
            attestations: [("linux/amd64".to_owned(), vec![attestation])].into(),
        }
    }

    fn shown(results: &Results) -> Vec<(&str, &str)> {
        match results {
            Results::None => Vec::new(),
            Results::Single(one) => vec![("", one.handle.as_str())],
            Results::ByPlatform(map) => {
                map.iter().map(|(key, one)| (&**key, one.handle.as_str())).collect()
            }
        }
    }

    #[test]
    fn results_round_trip_by_their_ids() {
        let platforms =
            [("a".to_owned(), solved("1")), ("b".to_owned(), SolvedRef::default())].into();
        for results in [Results::Single(solved("1")), Results::ByPlatform(platforms)] {
            for with_definitions in [true, false] {
                let sent = result(results.clone());
                let got = from_result(to_result(sent.clone(), with_definitions)).unwrap();
                assert_eq!(shown(&got.results), shown(&sent.results));
                assert_eq!(got.metadata, sent.metadata);
                let [given] = got.attestations["linux/amd64"].as_slice() else { panic!("one") };
                let mut said = sent.attestations["linux/amd64"][0].clone();
                said.tree.definition = None;
                assert_eq!(*given, said);
            }
        }
    }

    #[test]
    fn a_reference_travels_with_its_graph() {
        let sent = result(Results::Single(solved("1")));
        let wire = to_result(sent.clone(), true);
        let given = given_result(wire.clone()).unwrap();
        assert_eq!(given.attestations, sent.attestations);
        let Results::Single(given) = given.results else { panic!("one reference") };
        assert!(given.definition.is_some());
        let Some(Refs::Ref(reference)) = wire.result else { panic!("one reference") };
        assert!(reference.def.is_some());
    }

    #[test]
    fn nothing_is_an_empty_reference() {
        let wire = to_result(FrontendResult::default(), true);
        assert_eq!(wire.result, Some(Refs::Ref(gateway::Ref::default())));
        let empty = gateway::Result { result: wire.result, ..Default::default() };
        let Results::Single(one) = from_result(empty).unwrap().results else { panic!("one") };
        assert!(one.handle.is_empty());
    }

    #[test]
    fn unknown_kinds_are_refused() {
        let mut wire = to_result(result(Results::None), true);
        let list = wire.attestations.get_mut("linux/amd64").unwrap();
        list.attestation[0].in_toto_subjects[0].digest[0] = "nonsense".to_owned();
        assert!(from_result(wire.clone()).is_err());
        wire.attestations.get_mut("linux/amd64").unwrap().attestation[0].kind = 9;
        assert!(from_result(wire).unwrap_err().message().contains("kind of attestation 9"));
    }
}
