//! The wire: our `.proto` files, generated code, nothing else.
//!
//! Each module is one package of the protocol, under the short name we say. The generated code is
//! checked in; `tests/regenerate.rs` compares it with the `.proto` files. Conversions into Larder's
//! own types live with those types, never here.

#[allow(
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    reason = "generated: what to say is in the .proto files"
)]
#[rustfmt::skip]
mod generated;

/// The largest message that either side sends or accepts, on every connection.
///
/// Set it with `max_decoding_message_size` and `max_encoding_message_size` on each client and server.
pub const MAX_MESSAGE_SIZE: usize = 16 << 20;

/// `containerd.services.content.v1`: a content store at the other end of a connection.
pub use generated::containerd::services::content::v1 as content;
/// `errdefs`: details of an error.
pub use generated::errdefs;
/// `fsutil.types`: file trees on their way between client and daemon.
pub use generated::fsutil::types as fsutil;
/// `google.rpc`: the status of a call.
pub use generated::google::rpc;
/// `larder.volumes.v1`: cache volumes, seen and changed by their owner.
pub use generated::larder::volumes::v1 as volumes;
/// `moby.buildkit.secrets.v1`: the client's secrets.
pub use generated::moby::buildkit::secrets::v1 as secrets;
/// `moby.buildkit.v1`: the front door.
pub use generated::moby::buildkit::v1 as control;
/// `moby.buildkit.v1.apicaps`: what a daemon can do.
pub use generated::moby::buildkit::v1::apicaps;
/// `moby.buildkit.v1.frontend`: what a frontend may ask. It has a message named `Result`: do not
/// import everything from it.
pub use generated::moby::buildkit::v1::frontend as gateway;
/// `moby.buildkit.v1.sourcepolicy`: rules for the sources of a build.
pub use generated::moby::buildkit::v1::sourcepolicy;
/// `moby.buildkit.v1.sourcepolicy.policysession`: source policy decided by the client.
pub use generated::moby::buildkit::v1::sourcepolicy::policysession;
/// `moby.buildkit.v1.types`: what a worker says of itself.
pub use generated::moby::buildkit::v1::types as worker;
/// `moby.exporter.v1`: exporters that the client names.
pub use generated::moby::exporter::v1 as exporter;
/// `moby.filesync.v1`: the client's files and registry credentials.
pub use generated::moby::filesync::v1 as filesync;
/// `moby.sshforward.v1`: the client's SSH agent.
pub use generated::moby::sshforward::v1 as ssh;
/// `moby.upload.v1`: a build context that the client streams.
pub use generated::moby::upload::v1 as upload;
/// `opentelemetry.proto.collector.trace.v1`: trace export.
pub use generated::opentelemetry::proto::collector::trace::v1 as trace;
/// `pb`: the build graph.
pub use generated::pb;
