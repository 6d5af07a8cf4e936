//! The client's side of a build: its files, secrets, keys.
//!
//! A client opens one byte stream to the daemon and serves gRPC on it: inside that [`Tunnel`] the
//! daemon is the HTTP/2 client. [`Sessions`] files each connection under the id the client chose;
//! a [`Session`] then is what the rest of the build asks: for directories ([`Session::sync_directory`]),
//! for a place to put results, credentials, secrets, the ssh agent, an uploaded context, and the
//! blobs of the client's own content stores.
//!
//! The crate knows the wire of these services and how a tree of files is brought up to date. What
//! is done with the files (snapshots, cache keys) and who may ask for what is left to the callers.

mod auth;
mod bytes_stream;
mod call;
mod connection;
mod content;
mod error;
mod file_send;
mod fsutil;
mod health;
mod id;
mod secrets;
mod session;
mod sessions;
mod ssh;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod tree_send;
mod tunnel;
mod upload;

pub use auth::{Credentials, Token, TokenRequest};
pub use bytes_stream::ByteStream;
pub use content::{BlobInfo, BlobRange, BlobWrite, RemoteContent, StoreId};
pub use error::{Peer, Refusal, SessionError, TransferError};
pub use file_send::{FileSender, Outcome};
pub use fsutil::{Change, ChangeKind, Differ, KeptTree, ReceivedFile, Synced};
pub use id::SessionId;
pub use secrets::SecretBytes;
pub use session::Session;
pub use sessions::{LOOKUP_TIMEOUT, Registration, SessionGroup, SessionGuard, Sessions};
pub use ssh::{SshForward, SshSocket};
pub use sync::{MetadataOnly, SyncRequest};
pub use tree_send::{SendMode, SendOptions, SendTree, Sent};
pub use tunnel::Tunnel;
