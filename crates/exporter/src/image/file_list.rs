//! A list of what is in an image (an SBOM, a document of SPDX), and what is added to it when the image is
//! known: in which layer each file is, and who has said so.
//!
//! What is added is said in the words of one version, which the document is brought up to. What is no such
//! document, or none of a version that has these fields, stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use digests::Digest;
use serde_json::{Map, Value, json};

use super::file_list_version::update;

const CREATOR: &str = concat!("Tool: larder-", env!("CARGO_PKG_VERSION"));

/// A list that was read.
#[derive(Debug)]
pub(super) struct FileList(Map<String, Value>);

impl FileList {
    /// Reads a list; none if it is not one.
    pub(super) fn read(document: &[u8]) -> Option<Self> {
        let document = update(serde_json::from_slice(document).ok()?)?;
        let packages = objects(document.get("packages"))?;
        let are_lists = packages.iter().all(|package| objects(package.get("files")).is_some());
        let has_files = objects(document.get("files")).is_some();
        let creation = document.get("creationInfo").filter(|creation| !creation.is_null());
        let has_creators = creation.is_none_or(|creation| {
            let creators = creation.get("creators").filter(|creators| !creators.is_null());
            creation.is_object() && creators.is_none_or(Value::is_array)
        });
        let is_known = are_lists && has_files && has_creators;
        is_known.then_some(Self(document))
    }

    /// Returns the paths of files of which the list says nothing in words. What it says is left alone: nobody
    /// else knows what the words are for.
    pub(super) fn uncommented(&self) -> BTreeSet<String> {
        let packages = self.0.get("packages").and_then(Value::as_array).into_iter().flatten();
        let of_packages = packages.filter_map(|package| package.get("files"));
        let lists = self.0.get("files").into_iter().chain(of_packages);
        lists.filter_map(Value::as_array).flatten().filter_map(uncommented).collect()
    }

    /// Returns the document, with the layer of each file that has one and no words of its own.
    pub(super) fn with_layers(mut self, layers: &BTreeMap<String, Digest>) -> Vec<u8> {
        let comment = |file: &mut Value| {
            let layer = uncommented(file).and_then(|path| layers.get(&path));
            if let (Some(layer), Some(fields)) = (layer, file.as_object_mut()) {
                fields.insert("comment".to_owned(), json!(format!("layerID: {layer}")));
            }
        };
        let each = |list: Option<&mut Value>| {
            list.and_then(Value::as_array_mut).into_iter().flatten().for_each(comment);
        };
        each(self.0.get_mut("files"));
        let packages = self.0.get_mut("packages").and_then(Value::as_array_mut);
        for package in packages.into_iter().flatten() {
            each(package.get_mut("files"));
        }
        self.add_creator();
        Value::Object(self.0).to_string().into_bytes()
    }

    fn add_creator(&mut self) {
        let creation = self.0.entry("creationInfo").or_insert(Value::Null);
        if creation.is_null() {
            *creation = json!({});
        }
        let creators = &mut creation["creators"];
        match creators.as_array_mut() {
            Some(creators) => creators.push(json!(CREATOR)),
            None => *creators = json!([CREATOR]),
        }
    }
}

/// Returns the objects of a list, which may be missing; none if it is something else.
fn objects(list: Option<&Value>) -> Option<&[Value]> {
    match list {
        None | Some(Value::Null) => Some(&[]),
        Some(Value::Array(list)) => list.iter().all(Value::is_object).then_some(list),
        Some(_) => None,
    }
}

/// Returns the path of a file without words of its own.
fn uncommented(file: &Value) -> Option<String> {
    let is_empty = |comment: &Value| comment.as_str().is_some_and(str::is_empty);
    let is_free = file.get("comment").is_none_or(is_empty);
    Some(absolute(file.get("fileName")?.as_str()?)).filter(|_| is_free)
}

/// Returns a path from the root, in the one form in which it is compared.
pub(super) fn absolute(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &Value) -> Option<FileList> {
        FileList::read(document.to_string().as_bytes())
    }

    #[test]
    fn files_get_their_layer_unless_something_is_said_of_them() {
        let document = json!({
            "spdxVersion": "SPDX-2.3",
            "name": "n",
            "creationInfo": { "creators": ["Tool: scan"], "created": "2020-01-01T00:00:00Z" },
            "files": [
                { "fileName": "./a/../b" },
                { "fileName": "/said", "comment": "words" },
                { "fileName": "nowhere", "comment": "" },
            ],
            "packages": [{ "name": "p" }, { "files": [{ "fileName": "/p" }] }],
        });
        let list = read(&document).unwrap();
        let wanted: Vec<_> = list.uncommented().into_iter().collect();
        assert_eq!(wanted, ["/b", "/nowhere", "/p"]);
        let (one, other) = (Digest::of("one"), Digest::of("other"));
        let found = [("/b", one), ("/p", other), ("/said", one)];
        let found = found.map(|(path, layer)| (path.to_owned(), layer));
        let said: Value = serde_json::from_slice(&list.with_layers(&found.into())).unwrap();
        let mut expected = document;
        expected["packages"][0]["filesAnalyzed"] = json!(true);
        expected["packages"][1]["filesAnalyzed"] = json!(true);
        expected["files"][0]["comment"] = json!(format!("layerID: {one}"));
        expected["packages"][1]["files"][0]["comment"] = json!(format!("layerID: {other}"));
        expected["creationInfo"]["creators"] = json!(["Tool: scan", CREATOR]);
        assert_eq!(said, expected);
    }

    #[test]
    fn who_added_to_it_is_told_also_if_nobody_else_is() {
        for document in [
            json!({ "spdxVersion": "SPDX-2.2" }),
            json!({ "spdxVersion": "SPDX-2.2", "creationInfo": null, "files": null }),
            json!({ "spdxVersion": "SPDX-2.2", "creationInfo": {} }),
            json!({ "spdxVersion": "SPDX-2.2", "creationInfo": { "creators": null } }),
        ] {
            let said = read(&document).unwrap().with_layers(&BTreeMap::new());
            let said: Value = serde_json::from_slice(&said).unwrap();
            assert_eq!(said["creationInfo"], json!({ "creators": [CREATOR] }), "{document}");
            assert_eq!(said["spdxVersion"], "SPDX-2.3");
        }
    }

    #[test]
    fn what_is_no_such_list_is_none() {
        for document in [
            json!([]),
            json!({ "files": [] }),
            json!({ "spdxVersion": "SPDX-3.0" }),
            json!({ "spdxVersion": "SPDX-2.3", "files": "a b" }),
            json!({ "spdxVersion": "SPDX-2.3", "files": ["a"] }),
            json!({ "spdxVersion": "SPDX-2.3", "packages": [{ "files": 1 }] }),
            json!({ "spdxVersion": "SPDX-2.3", "creationInfo": "me" }),
            json!({ "spdxVersion": "SPDX-2.3", "creationInfo": { "creators": "me" } }),
        ] {
            assert!(read(&document).is_none(), "{document}");
        }
        assert!(FileList::read(b"{").is_none());
    }
}
