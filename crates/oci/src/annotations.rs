//! Keys of annotations and labels that builders and registries agree on.

/// When the image was built, as RFC 3339.
pub const CREATED: &str = "org.opencontainers.image.created";
/// Who made the image.
pub const AUTHORS: &str = "org.opencontainers.image.authors";
/// Where to learn more about the image.
pub const URL: &str = "org.opencontainers.image.url";
/// Where the image's sources are.
pub const SOURCE: &str = "org.opencontainers.image.source";
/// The version of what the image holds.
pub const VERSION: &str = "org.opencontainers.image.version";
/// The revision of the sources.
pub const REVISION: &str = "org.opencontainers.image.revision";
/// The name of what is meant, in an OCI layout: a tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// A title for people.
pub const TITLE: &str = "org.opencontainers.image.title";
/// A description for people.
pub const DESCRIPTION: &str = "org.opencontainers.image.description";
/// The digest of the image that this one is based on.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// The name of the image that this one is based on.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// The full name of an image, in an OCI layout.
pub const CONTAINERD_IMAGE_NAME: &str = "io.containerd.image.name";
/// The digest of a layer's content before compression.
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// The repository that a blob was found in.
pub const DISTRIBUTION_SOURCE: &str = "containerd.io/distribution.source";
/// What kind of reference a manifest in an index is to another one of it.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// The digest of the manifest that is referred to.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// The value of [`REFERENCE_TYPE`] on a manifest of attestations.
pub const ATTESTATION_MANIFEST: &str = "attestation-manifest";
/// The predicate type of an in-toto statement stored as a layer.
pub const IN_TOTO_PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// When a layer was made, as RFC 3339, in descriptors of a build's result.
pub const BUILDKIT_CREATED_AT: &str = "buildkit/createdat";
/// Asks for the modification times in a layer to be at most this epoch.
pub const BUILDKIT_REWRITTEN_TIMESTAMP: &str = "buildkit/rewritten-timestamp";
