//! An image that makes lists of what is in a tree, and the graph that runs it.

use std::collections::BTreeMap;

use bridge::{
    Attestation, AttestationKind, Bridge, BuildError, Kind, ResolveMode, Results, SolveRequest,
    SourceMetaRequest,
};
use bytes::Bytes;
use llb::{ExecOptions, ImageOptions, OpOptions, RunMount, State};
use oci::{ImageConfig, Platform, Reference};

use crate::{CORE, PREDICATE_TYPE, ScanRequest};

/// Where a scanner finds the result, and what else there is, by name.
const SOURCE: &str = "/run/src/core/sbom";
const EXTRAS: &str = "/run/src/extras";
/// Where it leaves its statements. Scanners that exist add names to it as it is told, with the slash.
const DESTINATION: &str = "/run/out/";
const IMAGE: &str = "docker-image://";

/// An image that makes lists, ready to run.
#[derive(Debug, Clone)]
pub struct Scanner {
    request: ScanRequest,
    image: State,
    platform: Platform,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
}

/// What is scanned.
#[derive(Debug, Clone, Default)]
pub struct ScanTarget {
    /// The platform's id, for clients to show.
    pub platform: String,
    /// The tree of the result.
    pub tree: State,
    /// Other trees, by name, which the scanner may list or leave.
    pub extras: BTreeMap<String, State>,
    /// Whether it is done even if the same was scanned before.
    pub ignore_cache: bool,
}

impl Scanner {
    /// Finds the image that is asked for; it runs on `platform`, which is the daemon's own.
    ///
    /// # Errors
    /// Returns an error if there is no such image, or it says of no command what to run.
    pub async fn find(
        bridge: &dyn Bridge,
        request: &ScanRequest,
        platform: &Platform,
    ) -> Result<Self, BuildError> {
        Self::look_up(bridge, request, platform).await.map_err(|error| request.blame(error))
    }

    async fn look_up(
        bridge: &dyn Bridge,
        request: &ScanRequest,
        platform: &Platform,
    ) -> Result<Self, BuildError> {
        let question = SourceMetaRequest {
            identifier: format!("{IMAGE}{}", request.generator),
            attributes: BTreeMap::new(),
            platform: Some(platform.clone()),
            log_name: String::new(),
            mode: request.mode,
            with_config: true,
        };
        let answer = bridge.resolve_source(question).await?;
        let name = answer.identifier.strip_prefix(IMAGE).map(Reference::parse);
        let (Some(Ok(name)), Some(found)) = (name, answer.image) else {
            let text = format!("{} is not an image", answer.identifier);
            return Err(BuildError::new(Kind::User, text));
        };
        let config: ImageConfig = serde_json::from_slice(&found.config).map_err(|error| {
            BuildError::new(Kind::User, format!("cannot read the image's configuration: {error}"))
        })?;
        let config = config.config;
        let args: Vec<String> = config.entrypoint.into_iter().chain(config.cmd).collect();
        if args.is_empty() {
            return Err(BuildError::new(Kind::User, format!("scanner {name} does not have cmd")));
        }
        // As people have written it, and as other builders show it: without the digest.
        let shown = format!("{IMAGE}{}", request.generator);
        let options = OpOptions { platform: Some(platform.into()), ..OpOptions::named(shown) };
        let image = ImageOptions { resolve_mode: graph_mode(request.mode), ..Default::default() };
        Ok(Self {
            request: request.clone(),
            // By digest: what was looked at is what runs.
            image: State::image(&name.with_digest(found.digest).to_string(), image, options),
            platform: platform.clone(),
            args,
            env: config.env,
            cwd: absolute(&config.working_dir),
        })
    }

    /// Gives the build the graph that scans a tree; returns the attestation that its result will be. Nothing
    /// has run then.
    ///
    /// # Errors
    /// Returns an error if the build does not take the graph.
    pub async fn scan(
        &self,
        bridge: &dyn Bridge,
        target: ScanTarget,
    ) -> Result<Attestation, BuildError> {
        let written = self.run(target);
        let definition = written
            .marshal(&llb::Platform::from(&self.platform))
            .map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))?;
        let request = SolveRequest { definition: Some(definition), ..SolveRequest::default() };
        let Results::Single(solved) = bridge.solve(request).await?.results else {
            return Err(BuildError::new(Kind::Internal, "a graph has one result"));
        };
        let said = |text: &'static str| Bytes::from_static(text.as_bytes());
        Ok(Attestation {
            kind: AttestationKind::Bundle,
            metadata: BTreeMap::from([
                ("reason".to_owned(), said("sbom")),
                ("sbom-core".to_owned(), said(CORE)),
            ]),
            tree: solved,
            path: String::new(),
            predicate_type: PREDICATE_TYPE.to_owned(),
            subjects: Vec::new(),
        })
    }

    /// Returns the directory of what the scanner writes.
    fn run(&self, target: ScanTarget) -> State {
        let ScanTarget { platform, tree, extras, ignore_cache } = target;
        let mut env = self.env.clone();
        set(&mut env, "BUILDKIT_SCAN_DESTINATION", DESTINATION);
        set(&mut env, "BUILDKIT_SCAN_SOURCE", SOURCE);
        if !extras.is_empty() {
            set(&mut env, "BUILDKIT_SCAN_SOURCE_EXTRAS", EXTRAS);
        }
        for (name, value) in &self.request.parameters {
            set(&mut env, &format!("BUILDKIT_SCAN_{name}"), value);
        }
        let seen = |dest: String, tree| RunMount { readonly: true, ..RunMount::bind(dest, tree) };
        let mut mounts = vec![RunMount::tmpfs("/tmp", 0), seen(SOURCE.to_owned(), tree)];
        for (name, tree) in extras {
            mounts.push(seen(format!("{EXTRAS}/{CORE}-{name}"), tree));
        }
        mounts.push(RunMount::bind(DESTINATION, State::scratch()));
        let run = ExecOptions {
            args: self.args.clone(),
            env,
            cwd: self.cwd.clone(),
            mounts,
            ..ExecOptions::default()
        };
        let name = format!("[{platform}] generating sbom using {}", self.request.generator);
        let options = OpOptions { ignore_cache, ..OpOptions::named(name) };
        self.image.run(run, options).mount(DESTINATION).unwrap_or_default()
    }
}

/// Sets a variable, in the place where it was set before.
fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|entry| entry.split('=').next() == Some(name)) {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
}

fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("/{directory}") }
}

const fn graph_mode(mode: ResolveMode) -> llb::ResolveMode {
    match mode {
        ResolveMode::Default => llb::ResolveMode::Default,
        ResolveMode::Pull => llb::ResolveMode::Pull,
        ResolveMode::Local => llb::ResolveMode::Local,
    }
}

#[cfg(test)]
mod tests {
    use bridge::testing::{MemoryBuild, Said};
    use digests::Digest;
    use llb::{ExecOp, LocalOptions, MountKind, Op};

    use super::*;
    use crate::Reader;

    const NAME: &str = "example.org/scan:1";

    fn request(more: &str) -> ScanRequest {
        let options = [("attest:sbom", format!("generator={NAME},{more}"))];
        let options = options.map(|(key, value)| (key.to_owned(), value));
        ScanRequest::of(&options.into(), Reader::Daemon).unwrap().unwrap()
    }

    async fn scan(config: &str, target: ScanTarget) -> (Result<Attestation, BuildError>, Said) {
        let build = MemoryBuild::new().image(NAME, config);
        let platform = Platform::new("linux", "amd64");
        let found = Scanner::find(&build, &request("type=sbom,depth=2"), &platform).await;
        let scanned = match found {
            Ok(scanner) => scanner.scan(&build, target).await,
            Err(error) => Err(error),
        };
        (scanned, build.said())
    }

    fn client(name: &str) -> State {
        State::local(name, LocalOptions::default(), OpOptions::default())
    }

    /// Returns the process of the only graph that was given.
    fn process(said: &Said) -> (ExecOp, String, Vec<String>) {
        let graph = said.solved[0].definition.as_ref().unwrap().load().unwrap();
        let root = graph.vertices.iter().find(|vertex| vertex.digest == graph.root.vertex).unwrap();
        let Op::Exec(exec) = &root.op else { panic!("{root:?}") };
        let sources = graph.vertices.iter().filter_map(|vertex| match &vertex.op {
            Op::Source(source) => Some(source.identifier.clone()),
            _ => None,
        });
        ((**exec).clone(), root.name.clone(), sources.collect())
    }

    #[tokio::test]
    async fn the_command_of_the_image_sees_the_result_and_writes_statements() {
        let config = r#"{"config":{"Entrypoint":["/scan"],"Cmd":["all"],"Env":["A=1","BUILDKIT_SCAN_type=x"],"WorkingDir":"w"}}"#;
        let target = ScanTarget {
            platform: "linux/arm64".to_owned(),
            tree: client("result"),
            ..ScanTarget::default()
        };
        let (attestation, said) = scan(config, target).await;
        let attestation = attestation.unwrap();
        assert_eq!(attestation.kind, AttestationKind::Bundle);
        assert_eq!(attestation.predicate_type, PREDICATE_TYPE);
        assert_eq!(attestation.metadata["sbom-core"], "sbom");
        let (exec, name, sources) = process(&said);
        assert_eq!(name, format!("[linux/arm64] generating sbom using {NAME}"));
        assert_eq!((exec.args, exec.cwd.as_str()), (vec!["/scan".into(), "all".into()], "/w"));
        let expected = [
            "A=1",
            "BUILDKIT_SCAN_type=sbom",
            "BUILDKIT_SCAN_DESTINATION=/run/out/",
            "BUILDKIT_SCAN_SOURCE=/run/src/core/sbom",
            "BUILDKIT_SCAN_depth=2",
        ];
        assert_eq!(exec.env, expected);
        let graph = said.solved[0].definition.as_ref().unwrap().load().unwrap();
        let names: Vec<_> = graph.vertices.iter().map(|vertex| vertex.name.as_str()).collect();
        assert!(names.contains(&format!("docker-image://{NAME}").as_str()), "{names:?}");
        let image = format!("docker-image://{NAME}@{}", Digest::of(NAME));
        assert_eq!(sources, [image, "local://result".to_owned()]);
        let mounts = exec.mounts.iter().map(|mount| {
            let is_memory = matches!(mount.kind, MountKind::Tmpfs { .. });
            (mount.dest.as_str(), mount.input.is_some(), mount.readonly, is_memory)
        });
        let expected = [
            ("/", true, false, false),
            ("/run/out/", false, false, false),
            ("/run/src/core/sbom", true, true, false),
            ("/tmp", false, false, true),
        ];
        assert_eq!(mounts.collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn other_trees_are_beside_it_by_name() {
        let extras = BTreeMap::from([("context".to_owned(), client("context"))]);
        let target = ScanTarget { extras, ignore_cache: true, ..ScanTarget::default() };
        let (_, said) = scan(r#"{"config":{"Cmd":["scan"]}}"#, target).await;
        let (exec, ..) = process(&said);
        assert!(exec.env.contains(&"BUILDKIT_SCAN_SOURCE_EXTRAS=/run/src/extras".to_owned()));
        let extra = exec.mounts.iter().find(|mount| mount.dest == "/run/src/extras/sbom-context");
        assert!(extra.is_some_and(|mount| mount.readonly && mount.input.is_some()));
        let graph = said.solved[0].definition.as_ref().unwrap().load().unwrap();
        let ignoring = graph.vertices.iter().filter(|vertex| vertex.metadata.ignore_cache);
        assert_eq!(ignoring.count(), 1, "only the scan");
    }

    #[tokio::test]
    async fn an_image_that_cannot_scan_is_named_and_so_is_the_remedy() {
        let (result, _) = scan(r#"{"config":{}}"#, ScanTarget::default()).await;
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(&format!("the SBOM generator `{NAME}` failed")), "{error}");
        assert!(error.contains("--attest type=sbom,generator=<image>"), "{error}");
        assert!(error.ends_with(&format!("scanner {NAME} does not have cmd")), "{error}");
        let build = MemoryBuild::new();
        let platform = Platform::new("linux", "amd64");
        let error = Scanner::find(&build, &request(""), &platform).await.unwrap_err();
        assert!(error.message().contains(NAME), "{error}");
        assert!(error.message().ends_with("not found"), "{error}");
    }
}
