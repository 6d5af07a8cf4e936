//! Why a result could not be delivered.

use std::error::Error;

use oci::ReferenceError;
use registry::RegistryError;

/// Why a result could not be delivered.
///
/// The first four are the request's fault and found before any work is done, with one exception: a
/// name may come with the result.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no such form.
    #[error("exporter \"{kind}\" could not be found")]
    Unknown {
        /// What was asked for.
        kind: String,
    },
    /// A setting has a value that makes no sense.
    #[error("invalid value `{value}` of exporter attribute `{attribute}`: expected {expected}")]
    Attribute {
        /// The attribute.
        attribute: String,
        /// Its value.
        value: String,
        /// What would make sense.
        expected: &'static str,
    },
    /// Two settings contradict each other.
    #[error("exporter option \"{one}\" conflicts with \"{other}\"")]
    Conflict {
        /// The one setting, as `name=value`.
        one: String,
        /// The other.
        other: &'static str,
    },
    /// A name of the image cannot be one.
    #[error("failed to parse `{name}` as the name of an image")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// The result does not fit the form, or what is known of it makes no sense.
    #[error("{0}")]
    Result(String),
    /// A registry did not take the image.
    #[error("failed to push `{name}`")]
    Push {
        /// The name of the image there.
        name: String,
        /// What happened.
        #[source]
        source: RegistryError,
    },
    /// A part that the delivery needs failed.
    #[error("failed to {action}")]
    Part {
        /// What was attempted.
        action: &'static str,
        /// Why it did not work.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ExportError {
    /// Returns true if another request would have been served.
    pub const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::Attribute { .. }
                | Self::Conflict { .. }
                | Self::Name { .. }
        )
    }

    /// Returns a function that says during what an error happened.
    pub(crate) fn during<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        move |source| Self::Part { action, source: source.into() }
    }
}
