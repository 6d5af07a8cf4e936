//! The protocol, spoken without somebody else's client: a connection, and graphs made by hand.

use std::time::Duration;

use anyhow::Context as _;
use prost::Message as _;
use proto::control::control_client::ControlClient;
use proto::gateway::llb_bridge_client::LlbBridgeClient;
use proto::pb;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// The largest message of the protocol.
pub const MESSAGE_LIMIT: usize = 16 << 20;
/// A daemon that does not answer for this long hangs.
const HANGS: Duration = Duration::from_secs(120);

/// A connection to a daemon.
#[derive(Debug, Clone)]
pub struct Wire {
    channel: Channel,
}

impl Wire {
    /// Connects to an address as clients write it.
    ///
    /// # Errors
    /// Fails if nobody listens there.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(address.replacen("tcp://", "http://", 1))?;
        let channel = endpoint.timeout(HANGS).connect().await;
        Ok(Self { channel: channel.with_context(|| format!("nobody answers at {address}"))? })
    }

    /// Returns the front door.
    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    /// Returns the calls of the frontend of a build.
    ///
    /// # Errors
    /// Fails if `build` cannot be sent as a header.
    pub fn bridge(&self, build: &str) -> anyhow::Result<Bridge> {
        let build = OfBuild(build.parse().context("no name for a build")?);
        Ok(LlbBridgeClient::with_interceptor(self.channel.clone(), build)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    /// Returns the connection itself.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// The calls of the frontend of a build.
pub type Bridge = LlbBridgeClient<InterceptedService<Channel, OfBuild>>;

/// Says with each call of which build it is.
#[derive(Debug, Clone)]
pub struct OfBuild(MetadataValue<tonic::metadata::Ascii>);

impl Interceptor for OfBuild {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("buildkit-controlapi-buildid", self.0.clone());
        Ok(request)
    }
}

/// A graph made by hand: operations in order, each known by the digest of its bytes.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    definition: pb::Definition,
}

impl Graph {
    /// Adds an operation on the outputs of others, and returns its digest.
    pub fn add(&mut self, op: pb::op::Op, inputs: &[&str]) -> String {
        let inputs =
            inputs.iter().map(|digest| pb::Input { digest: (*digest).to_owned(), index: 0 });
        self.add_message(&pb::Op {
            inputs: inputs.collect(),
            platform: Some(pb::Platform {
                os: "linux".to_owned(),
                architecture: match std::env::consts::ARCH {
                    "aarch64" => "arm64".to_owned(),
                    _ => "amd64".to_owned(),
                },
                ..pb::Platform::default()
            }),
            constraints: Some(pb::WorkerConstraints::default()),
            op: Some(op),
        })
    }

    /// Adds an operation as it is, and returns its digest.
    pub fn add_message(&mut self, op: &pb::Op) -> String {
        let bytes = op.encode_to_vec();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let digest = format!("sha256:{digest}");
        self.definition.def.push(bytes.into());
        self.definition.metadata.insert(digest.clone(), pb::OpMetadata::default());
        digest
    }

    /// Adds a file on an empty tree, or on the output of another operation.
    pub fn file(&mut self, on: Option<&str>, path: &str, data: &[u8]) -> String {
        let action = pb::file_action::Action::Mkfile(pb::FileActionMkFile {
            path: path.to_owned(),
            mode: 0o644,
            data: data.to_vec().into(),
            owner: None,
            timestamp: -1,
        });
        let input = if on.is_some() { 0 } else { -1 };
        let action = pb::FileAction { input, secondary_input: -1, output: 0, action: Some(action) };
        let op = pb::op::Op::File(pb::FileOp { actions: vec![action] });
        self.add(op, on.as_slice())
    }

    /// Adds a step that runs a shell command on the output of another operation.
    pub fn run(&mut self, on: &str, command: &str) -> String {
        self.run_words(on, &["/bin/sh", "-c", command])
    }

    /// Adds a step that runs these words on the output of another operation.
    pub fn run_words(&mut self, on: &str, words: &[&str]) -> String {
        let meta = pb::Meta {
            args: words.iter().map(|word| (*word).to_owned()).collect(),
            env: vec!["PATH=/bin:/usr/bin".to_owned()],
            cwd: "/".to_owned(),
            ..pb::Meta::default()
        };
        let root = pb::Mount { input: 0, dest: "/".to_owned(), output: 0, ..pb::Mount::default() };
        let op = pb::ExecOp { meta: Some(meta), mounts: vec![root], ..pb::ExecOp::default() };
        self.add(pb::op::Op::Exec(op), &[on])
    }

    /// Adds a source, such as `docker-image://host/name`.
    pub fn source(&mut self, identifier: &str) -> String {
        let op = pb::SourceOp { identifier: identifier.to_owned(), ..pb::SourceOp::default() };
        self.add(pb::op::Op::Source(op), &[])
    }

    /// Returns the definition of what this operation makes.
    pub fn finish(mut self, wanted: &str) -> pb::Definition {
        let input = pb::Input { digest: wanted.to_owned(), index: 0 };
        self.add_message(&pb::Op { inputs: vec![input], ..pb::Op::default() });
        self.definition
    }
}
