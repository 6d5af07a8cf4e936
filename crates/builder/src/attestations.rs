//! What a frontend says of its result, read from the file systems that it left it in.

use bridge::{
    Attestation, AttestationKind, Bridge, BuildError, FrontendResult, InTotoSubject, Kind,
    SubjectKind,
};
use bytes::Bytes;
use digests::Digest;
use exporter::Statement;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::result::Statements;

/// The longest statement that is taken.
const LONGEST: u64 = 40 << 20;
/// Where a result comes from is said by who built it, not by the frontend.
const PROVENANCE: &str = "https://slsa.dev/provenance/";

/// Returns what a frontend says of its result, by platform.
pub(crate) async fn read(
    bridge: &dyn Bridge,
    frontend: &FrontendResult,
) -> Result<Statements, BuildError> {
    let mut statements = Statements::new();
    for (platform, list) in &frontend.attestations {
        let said = statements.entry(platform.clone()).or_default();
        for attestation in list {
            match attestation.kind {
                AttestationKind::InToto => said.push(one(bridge, attestation).await?),
                AttestationKind::Bundle => said.extend(bundle(bridge, attestation).await?),
            }
        }
    }
    Ok(statements)
}

async fn one(bridge: &dyn Bridge, attestation: &Attestation) -> Result<Statement, BuildError> {
    if attestation.path.is_empty() {
        return Err(invalid("attestation does not have set path"));
    }
    let raw = attestation.subjects.iter().filter(|subject| subject.kind == SubjectKind::Raw);
    let statement = Statement {
        predicate_type: attestation.predicate_type.clone(),
        predicate: file(bridge, attestation, &attestation.path).await?,
        path: attestation.path.clone(),
        inline_only: is_inline_only(attestation),
        subjects: raw
            .map(|InTotoSubject { name, digests, .. }| (name.clone(), digests.clone()))
            .collect(),
    };
    checked(statement)
}

/// A whole statement, as a file of a bundle has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    predicate_type: String,
    #[serde(default)]
    subject: Vec<Subject>,
    #[serde(borrow)]
    predicate: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    #[serde(default)]
    digest: std::collections::BTreeMap<String, String>,
}

async fn bundle(
    bridge: &dyn Bridge,
    attestation: &Attestation,
) -> Result<Vec<Statement>, BuildError> {
    let mut statements = Vec::new();
    for entry in bridge.read_dir(&attestation.reference, &attestation.path, None).await? {
        let path = format!("{}/{}", attestation.path.trim_end_matches('/'), entry.name);
        let bytes = file(bridge, attestation, &path).await?;
        let whole: Whole<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!("cannot decode in-toto statement {path}: {error}")))?;
        let (wanted, is) = (&attestation.predicate_type, &whole.predicate_type);
        if !wanted.is_empty() && wanted != is {
            let text = format!("bundle entry {is} does not match required predicate type {wanted}");
            return Err(invalid(text));
        }
        let digests = |subject: &Subject| {
            let digests = subject.digest.iter();
            digests
                .filter_map(|(kind, hex)| format!("{kind}:{hex}").parse::<Digest>().ok())
                .collect()
        };
        let predicate = whole.predicate.map_or("", RawValue::get);
        statements.push(checked(Statement {
            predicate_type: whole.predicate_type.clone(),
            predicate: Bytes::copy_from_slice(predicate.as_bytes()),
            path,
            inline_only: is_inline_only(attestation),
            subjects: whole.subject.iter().map(|one| (one.name.clone(), digests(one))).collect(),
        })?);
    }
    Ok(statements)
}

fn checked(statement: Statement) -> Result<Statement, BuildError> {
    if statement.predicate_type.starts_with(PROVENANCE) {
        return Err(invalid("frontend may not set provenance attestations"));
    }
    Ok(statement)
}

async fn file(
    bridge: &dyn Bridge,
    attestation: &Attestation,
    path: &str,
) -> Result<Bytes, BuildError> {
    let stat = bridge.stat_file(&attestation.reference, path).await?;
    if stat.size > LONGEST {
        return Err(invalid(format!("{path} exceeds {LONGEST} bytes")));
    }
    bridge.read_file(&attestation.reference, path, None).await
}

fn is_inline_only(attestation: &Attestation) -> bool {
    attestation.metadata.get("inline-only").is_some_and(|value| &value[..] == b"true")
}

fn invalid(text: impl Into<String>) -> BuildError {
    BuildError::new(Kind::InvalidRequest, text.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bridge::testing::MemoryBuild;
    use bridge::{RefHandle, Results, SolveRequest};

    use super::*;

    /// Returns a build in which a frontend has left its statements.
    fn build() -> MemoryBuild {
        let tree = "frontend:scanner";
        MemoryBuild::new()
            .file(tree, "/sbom.json", r#"{"packages":[]}"#)
            .file(
                tree,
                "/all/one",
                r#"{"predicateType":"https://spdx.dev/Document","predicate":{"a": 1},
                "subject":[{"name":"x","digest":{"sha256":"HEX"}}]}"#,
            )
            .file(
                tree,
                "/other/two",
                r#"{"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}"#,
            )
            .file(tree, "/bad/three", "not JSON")
    }

    fn attestation(kind: AttestationKind, path: &str, predicate_type: &str) -> Attestation {
        Attestation {
            kind,
            metadata: BTreeMap::from([("inline-only".to_owned(), Bytes::from_static(b"true"))]),
            reference: RefHandle::default(),
            path: path.to_owned(),
            predicate_type: predicate_type.to_owned(),
            subjects: Vec::new(),
        }
    }

    async fn read_one(mut attestation: Attestation) -> Result<Vec<Statement>, BuildError> {
        let build = build();
        let scan = SolveRequest { frontend: "scanner".to_owned(), ..SolveRequest::default() };
        let Results::Single(scanned) = build.solve(scan).await?.results else {
            panic!("one tree is left");
        };
        attestation.reference = scanned.handle;
        let attestations = BTreeMap::from([("linux/amd64".to_owned(), vec![attestation])]);
        let result = FrontendResult { attestations, ..FrontendResult::default() };
        let said = read(&build, &result).await?;
        Ok(said["linux/amd64"].clone())
    }

    #[tokio::test]
    async fn statements_are_read_from_where_the_frontend_left_them() {
        use AttestationKind::{Bundle, InToto};
        let said = read_one(attestation(InToto, "/sbom.json", "https://spdx.dev/Document")).await;
        let said = said.unwrap().remove(0);
        assert_eq!((&said.predicate[..], said.inline_only), (&br#"{"packages":[]}"#[..], true));
        let said = read_one(attestation(Bundle, "/all", "")).await.unwrap().remove(0);
        assert_eq!(said.predicate_type, "https://spdx.dev/Document");
        assert_eq!((&said.predicate[..], said.path.as_str()), (&br#"{"a": 1}"#[..], "/all/one"));
        // A digest that is none is not told.
        assert_eq!(said.subjects, [("x".to_owned(), Vec::new())]);
        for (kind, path, predicate_type, expected) in [
            (InToto, "", "a", "attestation does not have set path"),
            (InToto, "/absent", "a", "lstat /absent: no such file or directory"),
            (InToto, "/sbom.json", PROVENANCE, "frontend may not set provenance attestations"),
            (Bundle, "/other", "", "frontend may not set provenance attestations"),
            (Bundle, "/all", "b", "https://spdx.dev/Document does not match required"),
            (Bundle, "/bad", "", "cannot decode in-toto statement /bad/three"),
        ] {
            let error = read_one(attestation(kind, path, predicate_type)).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
