//! A document of SPDX as the newest version before 3 has it: what its older versions, and shorter forms of this
//! one, say in other words.
//!
//! What a document describes and what a package contains are relationships there, each told once; whether the
//! files of a package were looked at is always said; kinds of references have a hyphen in their names.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

const OLDEST: &str = "SPDX-2.1";
const NEWEST: &str = "SPDX-2.3";
/// The versions of documents that are known.
const VERSIONS: [&str; 3] = [OLDEST, "SPDX-2.2", NEWEST];

/// Relationships in both directions, and which is the same the other way round.
const DESCRIBES: &str = "DESCRIBES";
const CONTAINS: &str = "CONTAINS";
const REVERSED: [(&str, &str); 2] = [("DESCRIBED_BY", DESCRIBES), ("CONTAINED_BY", CONTAINS)];

/// A relationship as it is compared: of what, which, and to what.
type Relationship = (String, String, String);

/// Brings a document up to the newest version; none if it is of a version that is not known, or its lists are
/// none.
pub(super) fn update(mut document: Map<String, Value>) -> Option<Map<String, Value>> {
    let version = document.get("spdxVersion")?.as_str()?;
    if !VERSIONS.contains(&version) {
        return None;
    }
    let is_oldest = version == OLDEST;
    let mut added = Vec::new();
    let described = ids(document.remove("documentDescribes"))?;
    let itself = document.get("SPDXID").cloned().unwrap_or_default();
    added.extend(described.into_iter().map(|id| (itself.clone(), DESCRIBES, id)));
    for package in objects_mut(document.get_mut("packages"))? {
        let contained = ids(package.remove("hasFiles"))?;
        let itself = package.get("SPDXID").cloned().unwrap_or_default();
        added.extend(contained.into_iter().map(|id| (itself.clone(), CONTAINS, id)));
        update_package(package, is_oldest)?;
    }
    // The oldest knows neither of the short forms.
    relate(&mut document, if is_oldest { Vec::new() } else { added })?;
    document.insert("spdxVersion".to_owned(), json!(NEWEST));
    Some(document)
}

fn update_package(package: &mut Map<String, Value>, is_oldest: bool) -> Option<()> {
    // Where nothing is said, the oldest means that they were not.
    package.entry("filesAnalyzed").or_insert(json!(!is_oldest));
    for reference in objects_mut(package.get_mut("externalRefs"))? {
        if let Some(Value::String(kind)) = reference.get_mut("referenceCategory") {
            *kind = kind.replace('_', "-");
        }
    }
    Some(())
}

/// Adds relationships that the document does not have yet.
fn relate(document: &mut Map<String, Value>, added: Vec<(Value, &str, Value)>) -> Option<()> {
    let told = objects_mut(document.get_mut("relationships"))?;
    let mut told: HashSet<_> = told.into_iter().map(|one| relationship(one)).collect();
    let mut missing = Vec::new();
    for (of, kind, to) in added {
        let one = json!({"spdxElementId": of, "relatedSpdxElement": to, "relationshipType": kind});
        if one.as_object().is_some_and(|one| told.insert(relationship(one))) {
            missing.push(one);
        }
    }
    if missing.is_empty() {
        return Some(());
    }
    match document.entry("relationships").or_insert(Value::Null) {
        Value::Array(list) => list.append(&mut missing),
        list => *list = Value::Array(missing),
    }
    Some(())
}

/// Returns what a relationship says, in the one direction in which it is compared.
fn relationship(one: &Map<String, Value>) -> Relationship {
    let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (of, kind, to) =
        (text("spdxElementId"), text("relationshipType"), text("relatedSpdxElement"));
    match REVERSED.iter().find(|(reversed, _)| *reversed == kind) {
        Some((_, kind)) => (to, (*kind).to_owned(), of),
        None => (of, kind, to),
    }
}

/// Returns the names in a list, which may be missing; none if it is something else.
fn ids(list: Option<Value>) -> Option<Vec<Value>> {
    match list {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().all(Value::is_string).then_some(list),
        Some(_) => None,
    }
}

/// Returns the objects of a list, which may be missing; none if it is something else.
fn objects_mut(list: Option<&mut Value>) -> Option<Vec<&mut Map<String, Value>>> {
    match list {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter_mut().map(Value::as_object_mut).collect(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(document: Value) -> Option<Value> {
        let Value::Object(document) = document else { panic!("{document}") };
        update(document).map(Value::Object)
    }

    fn related(of: &str, kind: &str, to: &str) -> Value {
        json!({"spdxElementId": of, "relatedSpdxElement": to, "relationshipType": kind})
    }

    #[test]
    fn what_a_document_describes_and_a_package_contains_are_relationships() {
        let document = json!({
            "spdxVersion": "SPDX-2.2",
            "SPDXID": "SPDXRef-DOCUMENT",
            "documentDescribes": ["SPDXRef-a", "SPDXRef-b", "SPDXRef-a"],
            "packages": [{"SPDXID": "SPDXRef-a", "hasFiles": ["SPDXRef-f", "SPDXRef-g"]}],
            "relationships": [
                related("SPDXRef-b", "DESCRIBED_BY", "SPDXRef-DOCUMENT"),
                related("SPDXRef-f", "CONTAINED_BY", "SPDXRef-a"),
                related("SPDXRef-a", "DEPENDS_ON", "SPDXRef-b"),
            ],
        });
        let mut expected = document.clone();
        expected["spdxVersion"] = json!("SPDX-2.3");
        expected.as_object_mut().unwrap().remove("documentDescribes");
        expected["packages"] = json!([{"SPDXID": "SPDXRef-a", "filesAnalyzed": true}]);
        let relationships = expected["relationships"].as_array_mut().unwrap();
        relationships.push(related("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-a"));
        relationships.push(related("SPDXRef-a", "CONTAINS", "SPDXRef-g"));
        assert_eq!(updated(document), Some(expected));
    }

    #[test]
    fn relationships_are_made_where_there_are_none() {
        for none in [json!({}), json!({"relationships": null}), json!({"relationships": []})] {
            let mut document = none;
            document["spdxVersion"] = json!("SPDX-2.3");
            document["SPDXID"] = json!("SPDXRef-DOCUMENT");
            document["documentDescribes"] = json!(["SPDXRef-a"]);
            let said = updated(document).unwrap();
            let expected = json!([related("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-a")]);
            assert_eq!(said["relationships"], expected);
        }
        let said = updated(json!({"spdxVersion": "SPDX-2.3"})).unwrap();
        assert_eq!(said, json!({"spdxVersion": "SPDX-2.3"}));
    }

    #[test]
    fn whether_files_were_looked_at_is_said_as_the_version_means_it() {
        for (version, said, expected) in [
            ("SPDX-2.1", json!({}), false),
            ("SPDX-2.2", json!({}), true),
            ("SPDX-2.3", json!({}), true),
            ("SPDX-2.1", json!({"filesAnalyzed": true}), true),
            ("SPDX-2.3", json!({"filesAnalyzed": false}), false),
        ] {
            let said = updated(json!({"spdxVersion": version, "packages": [said]})).unwrap();
            assert_eq!(said["packages"][0]["filesAnalyzed"], expected, "{version}");
        }
    }

    #[test]
    fn kinds_of_references_have_the_name_of_the_newest_version() {
        let reference = |kind: &str| json!([{"externalRefs": [{"referenceCategory": kind}]}]);
        for version in VERSIONS {
            let packages = reference("PACKAGE_MANAGER");
            let said = updated(json!({"spdxVersion": version, "packages": packages})).unwrap();
            let kind = &said["packages"][0]["externalRefs"][0]["referenceCategory"];
            assert_eq!(kind, "PACKAGE-MANAGER", "{version}");
        }
    }

    #[test]
    fn what_is_no_such_document_is_none() {
        for document in [
            json!({}),
            json!({"spdxVersion": "SPDX-3.0"}),
            json!({"spdxVersion": "SPDX-2.3", "documentDescribes": "a"}),
            json!({"spdxVersion": "SPDX-2.3", "documentDescribes": [1]}),
            json!({"spdxVersion": "SPDX-2.3", "packages": [{"hasFiles": {}}]}),
            json!({"spdxVersion": "SPDX-2.3", "packages": [{"externalRefs": [1]}]}),
            json!({"spdxVersion": "SPDX-2.3", "relationships": ["a"]}),
        ] {
            assert!(updated(document.clone()).is_none(), "{document}");
        }
    }
}
