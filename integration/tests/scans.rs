//! Lists of what is in a result (SBOMs), made by an image that the client names.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use integration::{Archive, Bridge, Graph, Project, Wire, World, statements};
use proto::control::{CacheOptions, Exporter, SolveRequest};
use proto::gateway::result::Result as Outcome;
use proto::{gateway, pb};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes a statement about each tree: what it has in it, and what the scanner was told.
const LISTS: &str = r#"
list() {
    cat >"$BUILDKIT_SCAN_DESTINATION$1.spdx.json" <<EOF
{"_type":"https://in-toto.io/Statement/v1","subject":null,
 "predicateType":"https://spdx.dev/Document",
 "predicate":{"name":"$1","files":"$(cd "$2" && echo *)","depth":"$BUILDKIT_SCAN_depth"}}
EOF
}
list sbom "$BUILDKIT_SCAN_SOURCE"
touch /tmp/works
if [ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ]; then
    for tree in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do list "${tree##*/}" "$tree"; done
fi
"#;
const SPDX: &str = "https://spdx.dev/Document";

/// Pushes an image that scans by this script; returns its name.
fn push_scanner(world: &World, name: &str, script: &str) -> anyhow::Result<String> {
    let image = world.registry.image(name);
    let project =
        world.project("FROM {busybox}\nCOPY scan /scan\nENTRYPOINT [\"sh\", \"/scan\"]\n")?;
    world
        .build(&project.with("scan", script)?)
        .args(["--provenance=false"])
        .push(&image)
        .succeed()?;
    Ok(image)
}

fn files(statement: &Value) -> (&str, &str) {
    let predicate = &statement["predicate"];
    (
        predicate["name"].as_str().unwrap_or_default(),
        predicate["files"].as_str().unwrap_or_default(),
    )
}

#[test]
fn an_image_is_pushed_with_a_list_of_what_is_in_it() -> anyhow::Result<()> {
    let world = World::start()?;
    let scanner = push_scanner(&world, "scan:1", LISTS)?;
    let project = world.project("FROM scratch\nCOPY file other /\n")?;
    let project = project.with("file", "x")?.with("other", "y")?;
    let name = world.registry.image("app:listed");
    let build = || {
        let asked = format!("type=sbom,generator={scanner},depth=2");
        world.build(&project).args(["--provenance=mode=max", "--attest", &asked]).push(&name)
    };
    let shown = build().succeed()?;
    let scan = format!("generating sbom using {scanner}");
    shown.assert_cached(&scan, false);
    let said = statements(&format!("docker://{name}"))?;
    let types: Vec<_> = said.iter().map(|statement| &statement["predicateType"]).collect();
    assert_eq!(types, [SPDX, "https://slsa.dev/provenance/v1"]);
    let list = &said[0];
    assert_eq!(list["_type"], "https://in-toto.io/Statement/v1");
    let expected = json!({"name": "sbom", "files": "file other", "depth": "2"});
    assert_eq!(list["predicate"], expected);
    // What was scanned is known by the digest of its manifest.
    let index = integration::Image::read(&format!("docker://{name}"))?.top;
    let digest = index["manifests"][0]["digest"].as_str().context("a manifest")?;
    assert_eq!(list["subject"][0]["digest"]["sha256"], digest.trim_start_matches("sha256:"));
    let subject = list["subject"][0]["name"].as_str().unwrap_or_default();
    assert!(subject.starts_with("pkg:docker/") && subject.contains("/app@listed"), "{subject}");
    // The scanner had a part in what is said.
    let materials = said[1]["predicate"]["buildDefinition"]["resolvedDependencies"].to_string();
    assert!(materials.contains("/scan@1"), "{materials}");
    build().succeed()?.assert_cached(&scan, true);
    build().args(["--no-cache"]).succeed()?.assert_cached(&scan, false);
    Ok(())
}

/// Writes a document of SPDX with the files of the tree.
const FILES: &str = r#"
cd "$BUILDKIT_SCAN_SOURCE"
files=$(find . -type f | sort | sed 's/.*/{"SPDXID":"SPDXRef-&","fileName":"&"}/' | tr '\n' , | sed 's/,$//')
cat >"$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json" <<EOF
{"_type":"https://in-toto.io/Statement/v1","subject":null,
 "predicateType":"https://spdx.dev/Document",
 "predicate":{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"app",
  "documentNamespace":"https://example.org/app","packages":[],"files":[$files],
  "creationInfo":{"created":"2020-01-01T00:00:00Z","creators":["Tool: lister-1"]}}}
EOF
"#;

#[test]
fn a_list_of_an_image_says_in_which_layer_each_file_is() -> anyhow::Result<()> {
    let world = World::start()?;
    let scanner = push_scanner(&world, "scan:2", FILES)?;
    let project = world.project("FROM scratch\nCOPY one two /d/\nCOPY other /d/two\n")?;
    let project = project.with("one", "1")?.with("two", "2")?.with("other", "3")?;
    let name = world.registry.image("app:files");
    let asked = format!("--sbom=generator={scanner}");
    world.build(&project).arg(&asked).push(&name).succeed()?;
    let list = &statements(&format!("docker://{name}"))?[0]["predicate"];
    let image = integration::Image::read(&format!("docker://{name}"))?;
    let layer = |number: usize| {
        let digest = image.manifest["layers"][number]["digest"].as_str().unwrap_or_default();
        format!("layerID: {digest}")
    };
    let files = list["files"].as_array().context("files")?;
    let said: BTreeMap<_, _> =
        files.iter().map(|file| (file["fileName"].as_str(), file["comment"].as_str())).collect();
    let expected = [("./d/one", layer(0)), ("./d/two", layer(1))];
    let expected = expected.iter().map(|(path, layer)| (Some(*path), Some(layer.as_str())));
    assert_eq!(said, expected.collect());
    let creators = list["creationInfo"]["creators"].as_array().context("creators")?;
    assert_eq!((creators.len(), &creators[0]), (2, &json!("Tool: lister-1")));
    let added = creators[1].as_str().unwrap_or_default();
    assert!(added.starts_with("Tool: larder-"), "{added}");
    Ok(())
}

#[test]
fn files_of_a_result_have_their_list_beside_them() -> anyhow::Result<()> {
    let world = World::start()?;
    let scanner = push_scanner(&world, "scan:1", LISTS)?;
    let project = world.project("FROM scratch\nCOPY file /file\n")?.with("file", "x")?;
    let out = TempDir::new()?;
    let (archive, folder) = (out.path().join("out.tar"), out.path().join("out"));
    world
        .build(&project)
        .arg(format!("--sbom=generator={scanner}"))
        .args(["--output".to_owned(), format!("type=tar,dest={}", archive.display())])
        .args(["--output".to_owned(), format!("type=local,dest={}", folder.display())])
        .succeed()?;
    let list: Value = serde_json::from_slice(&fs::read(folder.join("sbom.spdx.json"))?)?;
    assert_eq!(files(&list), ("sbom", "file"));
    assert_eq!(list["subject"][0]["name"], "file");
    let archived: Value = serde_json::from_str(&Archive::open(&archive)?.text("sbom.spdx.json")?)?;
    assert_eq!(archived, list);
    Ok(())
}

#[test]
fn the_dockerfile_says_what_else_is_scanned() -> anyhow::Result<()> {
    let world = World::start()?;
    let scanner = push_scanner(&world, "scan:1", LISTS)?;
    let project = world.project(
        "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\n\
         FROM scratch AS make\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY file /made\n\
         FROM scratch AS unused\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY none /none\n\
         FROM scratch\nCOPY --from=make /made /kept\n",
    )?;
    let project = project.with("file", "x")?;
    let name = world.registry.image("app:all");
    let build = |more: &[&str]| -> anyhow::Result<Vec<Value>> {
        let asked = format!("--sbom=generator={scanner}");
        let build = world.build(&project).args(["--provenance=false", &asked]).args(more);
        build.push(&name).succeed()?;
        statements(&format!("docker://{name}"))
    };
    let said = build(&[])?;
    let listed: Vec<_> = said.iter().map(files).collect();
    assert_eq!(listed, [("sbom", "kept"), ("sbom-context", "file"), ("sbom-make", "made")]);
    let less = ["--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=false"];
    let said = build(&less)?;
    let listed: Vec<_> = said.iter().map(files).collect();
    assert_eq!(listed, [("sbom", "kept"), ("sbom-context", "file")]);
    Ok(())
}

#[test]
fn a_scanner_that_does_not_do_it_is_named_with_the_remedy() -> anyhow::Result<()> {
    let world = World::start()?;
    let project = world.project("FROM scratch\nCOPY Dockerfile /\n")?;
    let fails = push_scanner(&world, "fails:1", "echo no disk >&2; exit 3\n")?;
    let garbage = "echo '{\"a' >$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json\n";
    let garbage = push_scanner(&world, "garbage:1", garbage)?;
    let other = r#"echo '{"predicateType":"other"}' >$BUILDKIT_SCAN_DESTINATION/a"#;
    let other = push_scanner(&world, "other:1", other)?;
    let missing = world.registry.image("missing:1");
    for (scanner, expected) in [
        (&fails, "exit code: 3"),
        (&garbage, "cannot decode in-toto statement sbom.spdx.json"),
        (&other, "does not match required predicate type https://spdx.dev/Document"),
        (&missing, "not found"),
    ] {
        let asked = format!("--sbom=generator={scanner}");
        let out = world.registry.image("app:bad");
        let build = world.build(&project).arg(asked).push(&out).fail()?;
        build.assert_shows(&format!("the SBOM generator `{scanner}` failed"));
        build.assert_shows("--attest type=sbom,generator=<image>");
        build.assert_shows(expected);
    }
    Ok(())
}

#[test]
fn a_graph_without_a_frontend_is_scanned_by_the_daemon() -> anyhow::Result<()> {
    let world = World::start()?;
    let scanner = push_scanner(&world, "scan:1", LISTS)?;
    let name = world.registry.image("app:graph");
    let mut graph = Graph::default();
    let made = graph.file(None, "/made", b"x");
    let attributes = [("name", name.as_str()), ("push", "true")];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let exporter =
        Exporter { r#type: "image".to_owned(), attrs: attributes.map(own).into_iter().collect() };
    let asked = format!("generator={scanner}");
    let request = SolveRequest {
        r#ref: "graph".to_owned(),
        definition: Some(graph.finish(&made)),
        frontend_attrs: BTreeMap::from([own(("attest:sbom", &asked))]),
        exporters: vec![exporter],
        cache: Some(CacheOptions::default()),
        ..SolveRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        wire.control().solve(request).await?;
        anyhow::Ok(())
    })?;
    let said = statements(&format!("docker://{name}"))?;
    assert_eq!(said.iter().map(files).collect::<Vec<_>>(), [("sbom", "made")]);
    Ok(())
}

/// Returns what the frontend makes of a Dockerfile of which lists are wanted.
async fn listed(bridge: &mut Bridge, scanner: &str) -> anyhow::Result<gateway::Result> {
    let dockerfile = b"FROM scratch\nCOPY file /kept\n";
    let (mut recipe, mut context) = (Graph::default(), Graph::default());
    let recipe_file = recipe.file(None, "/Dockerfile", dockerfile);
    let context_file = context.file(None, "/file", b"x");
    let inputs = [
        ("dockerfile".to_owned(), recipe.finish(&recipe_file)),
        ("context".to_owned(), context.finish(&context_file)),
    ];
    let options = [("attest:sbom".to_owned(), format!("generator={scanner}"))];
    let request = gateway::SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_inputs: inputs.into_iter().collect(),
        frontend_opt: options.into_iter().collect(),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    bridge.solve(request).await?.into_inner().result.context("a result")
}

/// Returns the list in the tree that a definition makes.
async fn list_of(bridge: &mut Bridge, definition: pb::Definition) -> anyhow::Result<Value> {
    let request = gateway::SolveRequest {
        definition: Some(definition),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    let made = bridge.solve(request).await?.into_inner().result.context("a result")?;
    let Some(Outcome::Ref(tree)) = made.result else { anyhow::bail!("no tree: {made:?}") };
    let file = gateway::ReadFileRequest {
        r#ref: tree.id,
        file_path: "/sbom.spdx.json".to_owned(),
        ..gateway::ReadFileRequest::default()
    };
    Ok(serde_json::from_slice(&bridge.read_file(file).await?.into_inner().data)?)
}

#[test]
fn a_list_travels_with_the_graph_that_makes_it() -> anyhow::Result<()> {
    let world = World::start()?;
    let scanner = push_scanner(&world, "scan:1", LISTS)?;
    let request = SolveRequest {
        r#ref: "driven".to_owned(),
        cache: Some(CacheOptions::default()),
        ..SolveRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::connect(&world.backend.address()).await?;
        let (mut control, mut bridge) = (wire.control(), wire.bridge("driven")?);
        let talk = async {
            bridge.ping(gateway::PingRequest::default()).await?;
            let result = listed(&mut bridge, &scanner).await?;
            let said = result.attestations.values().next().context("a list")?;
            let tree = said.attestation[0].r#ref.clone().context("a tree")?;
            let list = list_of(&mut bridge, tree.def.context("a graph")?).await?;
            assert_eq!(files(&list), ("sbom", "kept"));
            bridge.r#return(gateway::ReturnRequest { result: Some(result), error: None }).await?;
            anyhow::Ok(())
        };
        let built = async { control.solve(request).await.context("the build failed") };
        tokio::try_join!(talk, built)?;
        anyhow::Ok(())
    })
}

#[test]
fn nothing_is_scanned_unless_it_is_asked_for() -> anyhow::Result<()> {
    let world = World::start()?;
    let project =
        Project::new("ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM scratch\nCOPY Dockerfile /\n")?;
    let build = world.build(&project).succeed()?;
    assert!(build.step("generating sbom").is_err(), "{}", build.output);
    Ok(())
}
