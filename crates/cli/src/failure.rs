//! Why a command was not done, and the exit status that says so.

use std::error::Error;
use std::process::ExitCode;

use tonic::{Code, Status};
use volumes::VolumeError;

/// What a script can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything else.
    Other,
    /// What was said cannot be meant.
    Usage,
    /// There is no such thing.
    NotFound,
    /// Somebody uses it.
    InUse,
    /// There is one already.
    Exists,
    /// Nobody answers.
    Unreachable,
    /// A wait took too long.
    WaitedTooLong,
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
    /// Another status than the usual one for its kind.
    status: Option<u8>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, status: None }
    }

    /// Says what was attempted when `source` happened.
    pub(crate) fn because(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::new(Kind::Other, message) }
    }

    /// Makes it end the program with `status`.
    pub(crate) fn with_status(self, status: u8) -> Self {
        Self { status: Some(status), ..self }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the status that the program ends with.
    pub(crate) fn status(&self) -> ExitCode {
        let usual = match self.kind {
            Kind::Other | Kind::WaitedTooLong => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::InUse => 4,
            Kind::Exists => 5,
            Kind::Unreachable => 6,
        };
        self.status.unwrap_or(usual).into()
    }

    /// Returns the message with all its causes.
    pub(crate) fn text(&self) -> String {
        with_causes(self)
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Some libraries put the cause into the message as well.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        let kind = match &error {
            VolumeError::Unknown(_)
            | VolumeError::NoVersion { .. }
            | VolumeError::NoDirectory { .. } => Kind::NotFound,
            VolumeError::InUse { .. } => Kind::InUse,
            VolumeError::Exists(_) => Kind::Exists,
            VolumeError::WaitLimit { .. } => Kind::WaitedTooLong,
            VolumeError::Damaged { .. }
            | VolumeError::Newer { .. }
            | VolumeError::NoSpace { .. }
            | VolumeError::NoReflinks(_)
            | VolumeError::NoSubvolumes { .. }
            | VolumeError::Lock(_)
            | VolumeError::System { .. }
            | VolumeError::Stopped(_) => Kind::Other,
        };
        Self::new(kind, with_causes(&error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::InvalidArgument => Kind::Usage,
            Code::NotFound => Kind::NotFound,
            Code::FailedPrecondition => Kind::InUse,
            Code::AlreadyExists => Kind::Exists,
            Code::Unavailable => Kind::Unreachable,
            _ => Kind::Other,
        };
        match (status.code(), status.message()) {
            (Code::Unimplemented, "") => {
                Self::new(kind, "the daemon does not know cache volumes: is it `larderd`?")
            }
            (code, "") => Self::new(kind, format!("the daemon refused: {code}")),
            (_, message) => Self::new(kind, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_a_volume_fail_alike() {
        for (error, code) in [
            (VolumeError::Unknown("v".into()), Code::NotFound),
            (VolumeError::InUse { volume: "v".into(), holders: vec![] }, Code::FailedPrecondition),
            (VolumeError::Exists("v".into()), Code::AlreadyExists),
        ] {
            let text = error.to_string();
            let (here, there) = (Failure::from(error), Failure::from(Status::new(code, &*text)));
            assert_eq!((here.kind(), here.text()), (there.kind(), there.text()));
        }
    }

    #[test]
    fn causes_are_told_once() {
        let io = std::io::Error::other("no luck");
        assert_eq!(Failure::because("cannot try", io).text(), "cannot try: no luck");
        let io = std::io::Error::other("no luck");
        assert_eq!(Failure::because("cannot try: no luck", io).text(), "cannot try: no luck");
    }
}
