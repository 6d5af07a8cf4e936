//! What frontends and scanners say of a result, read from the file systems that they left it in.

use bridge::{
    Attestation, AttestationKind, Bridge, BuildError, FileRange, FrontendResult, InTotoSubject,
    Kind, SubjectKind,
};
use bytes::{Bytes, BytesMut};
use digests::Digest;
use exporter::{Statement, StatementSubject};
use futures::future::try_join_all;
use sbom::ScanRequest;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::result::Statements;

/// The longest statement that is taken, bytes.
const LONGEST: u64 = 40 << 20;
/// How much of a statement is read at once, bytes: no more is given out.
const PIECE: u64 = 16 << 20;
/// Where a result comes from is said by who built it, not by the frontend.
const PROVENANCE: &str = "https://slsa.dev/provenance/";

/// Returns what is said of a result, by platform, all of it built at once. `scan` is what the client asked for:
/// who made a list is blamed for it.
pub(crate) async fn read(
    bridge: &dyn Bridge,
    frontend: &FrontendResult,
    scan: Option<&ScanRequest>,
) -> Result<Statements, BuildError> {
    let platforms = frontend.attestations.iter().map(|(platform, list)| async move {
        let said = list.iter().map(|attestation| async move {
            let said = said(bridge, attestation).await;
            said.map_err(|error| match scan.filter(|_| is_list(attestation)) {
                Some(scan) => scan.blame(error),
                None => error,
            })
        });
        let mut said: Vec<_> = try_join_all(said).await?.into_iter().flatten().collect();
        // The list of the result itself is found before the lists of other trees.
        said.sort_by_key(|statement| !statement.is_list);
        Ok::<_, BuildError>((platform.clone(), said))
    });
    Ok(try_join_all(platforms).await?.into_iter().collect())
}

/// Returns the statements of an attestation.
async fn said(
    bridge: &dyn Bridge,
    attestation: &Attestation,
) -> Result<Vec<Statement>, BuildError> {
    let mut said = match attestation.kind {
        AttestationKind::InToto => vec![one(bridge, attestation).await?],
        AttestationKind::Bundle => bundle(bridge, attestation).await?,
    };
    let core = attestation.metadata.get("sbom-core");
    for statement in &mut said {
        let name = statement.path.rsplit('/').next().unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        statement.is_list = statement.predicate_type == sbom::PREDICATE_TYPE
            && core.is_some_and(|core| &core[..] == stem.as_bytes());
    }
    Ok(said)
}

/// Returns whether an attestation is what a scanner left.
fn is_list(attestation: &Attestation) -> bool {
    attestation.metadata.get("reason").is_some_and(|reason| &reason[..] == b"sbom")
}

async fn one(bridge: &dyn Bridge, attestation: &Attestation) -> Result<Statement, BuildError> {
    if attestation.path.is_empty() {
        return Err(invalid("attestation does not have set path"));
    }
    let subject = |InTotoSubject { kind, name, digests }: &InTotoSubject| match kind {
        SubjectKind::Itself => StatementSubject::Itself(name.clone()),
        SubjectKind::Raw => {
            StatementSubject::Other { name: name.clone(), digests: digests.clone() }
        }
    };
    let statement = Statement {
        predicate_type: attestation.predicate_type.clone(),
        predicate: file(bridge, attestation, &attestation.path).await?.into(),
        path: attestation.path.clone(),
        inline_only: is_inline_only(attestation),
        is_list: false,
        subjects: attestation.subjects.iter().map(subject).collect(),
    };
    checked(statement)
}

/// A whole statement, as a file of a bundle has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    predicate_type: String,
    /// Go writes an empty list as `null`.
    subject: Option<Vec<Subject>>,
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
    for entry in bridge.read_dir(&attestation.tree.handle, &attestation.path, None).await? {
        let path = match attestation.path.trim_end_matches('/') {
            "" => entry.name,
            directory => format!("{directory}/{}", entry.name),
        };
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
        let subjects = whole.subject.iter().flatten().map(|subject| StatementSubject::Other {
            name: subject.name.clone(),
            digests: digests(subject),
        });
        let predicate = whole.predicate.map_or("", RawValue::get);
        statements.push(checked(Statement {
            predicate_type: whole.predicate_type.clone(),
            predicate: Bytes::copy_from_slice(predicate.as_bytes()).into(),
            path,
            inline_only: is_inline_only(attestation),
            is_list: false,
            subjects: subjects.collect(),
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
    let stat = bridge.stat_file(&attestation.tree.handle, path).await?;
    if stat.size > LONGEST {
        return Err(invalid(format!("{path} exceeds {LONGEST} bytes")));
    }
    let mut content = BytesMut::new();
    loop {
        let offset = content.len() as u64;
        let length = PIECE.min(stat.size.saturating_sub(offset));
        let range = FileRange { offset, length };
        let piece = bridge.read_file(&attestation.tree.handle, path, Some(range)).await?;
        content.extend_from_slice(&piece);
        if piece.is_empty() || content.len() as u64 >= stat.size {
            return Ok(content.freeze());
        }
    }
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
    use bridge::{Results, SolveRequest, SolvedRef};
    use sbom::Reader;

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

    /// What a scanner in Go writes.
    const LIST: &str =
        r#"{"predicateType":"https://spdx.dev/Document","subject":null,"predicate":{}}"#;

    fn attestation(kind: AttestationKind, path: &str, predicate_type: &str) -> Attestation {
        Attestation {
            kind,
            metadata: BTreeMap::from([("inline-only".to_owned(), Bytes::from_static(b"true"))]),
            tree: SolvedRef::default(),
            path: path.to_owned(),
            predicate_type: predicate_type.to_owned(),
            subjects: Vec::new(),
        }
    }

    /// Returns what the client asks for.
    fn request() -> ScanRequest {
        let options = [("attest:sbom".to_owned(), "generator=example.org/scan".to_owned())];
        ScanRequest::of(&options.into(), Reader::Daemon).unwrap().unwrap()
    }

    async fn read_one(mut attestation: Attestation) -> Result<Vec<Statement>, BuildError> {
        let build = build()
            .file("frontend:scanner", "lists/sbom-context.spdx.json", LIST)
            .file("frontend:scanner", "lists/sbom.spdx.json", LIST)
            .file("frontend:scanner", "long", vec![b'1'; 17 << 20]);
        let scan = SolveRequest { frontend: "scanner".to_owned(), ..SolveRequest::default() };
        let Results::Single(scanned) = build.solve(scan).await?.results else {
            panic!("one tree is left");
        };
        attestation.tree = scanned;
        let attestations = BTreeMap::from([("linux/amd64".to_owned(), vec![attestation])]);
        let result = FrontendResult { attestations, ..FrontendResult::default() };
        let said = read(&build, &result, Some(&request())).await?;
        Ok(said["linux/amd64"].clone())
    }

    #[tokio::test]
    async fn statements_are_read_from_where_the_frontend_left_them() {
        use AttestationKind::{Bundle, InToto};
        let said = read_one(attestation(InToto, "/sbom.json", "https://spdx.dev/Document")).await;
        let said = said.unwrap().remove(0);
        let text = said.predicate.read().await;
        assert_eq!((&text[..], said.inline_only), (&br#"{"packages":[]}"#[..], true));
        let said = read_one(attestation(Bundle, "/all", "")).await.unwrap().remove(0);
        assert_eq!(said.predicate_type, "https://spdx.dev/Document");
        let text = said.predicate.read().await;
        assert_eq!((&text[..], said.path.as_str()), (&br#"{"a": 1}"#[..], "/all/one"));
        // A digest that is none is not told.
        let x = StatementSubject::Other { name: "x".to_owned(), digests: Vec::new() };
        assert_eq!(said.subjects, [x]);
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

    #[tokio::test]
    async fn the_list_of_the_result_comes_first_and_who_made_a_bad_one_is_named() {
        let list = |path| {
            let mut list = attestation(AttestationKind::Bundle, path, sbom::PREDICATE_TYPE);
            list.metadata.insert("reason".to_owned(), Bytes::from_static(b"sbom"));
            list.metadata.insert("sbom-core".to_owned(), Bytes::from_static(b"sbom"));
            list
        };
        let said = read_one(list("/lists")).await.unwrap();
        let paths: Vec<_> = said.iter().map(|statement| statement.path.as_str()).collect();
        assert_eq!(paths, ["/lists/sbom.spdx.json", "/lists/sbom-context.spdx.json"]);
        assert_eq!(said[0].subjects, []);
        // What the image adds to is the list of the image, and no other.
        assert_eq!([said[0].is_list, said[1].is_list], [true, false]);
        let error = read_one(list("/bad")).await.unwrap_err();
        let expected = "the SBOM generator `example.org/scan:latest` failed (name another";
        let message = error.message();
        assert!(message.starts_with(expected) && message.contains("cannot decode"), "{error}");
    }

    #[tokio::test]
    async fn a_statement_may_be_longer_than_what_is_given_out_at_once() {
        let long = attestation(AttestationKind::InToto, "/long", "a");
        let said = read_one(long).await.unwrap();
        assert_eq!(said[0].predicate.read().await.len(), 17 << 20);
    }
}
