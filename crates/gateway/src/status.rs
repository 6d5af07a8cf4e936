//! The one place where an error of a build becomes the status of a call.

use bridge::BuildError;
use prost::Message as _;
use proto::rpc;
use tonic::{Code, Status};

use crate::wire;

/// Returns the status of a call that failed with `error`, with its details.
pub fn of(error: BuildError) -> Status {
    let status = wire::to_rpc(&error);
    let code = Code::from_i32(status.code);
    if status.details.is_empty() {
        return Status::new(code, status.message);
    }
    let details = status.encode_to_vec();
    Status::with_details(code, status.message, details.into())
}

/// Returns what went wrong with a call that ended with `status`, as the one who made it sees it.
pub fn error(status: &Status) -> BuildError {
    let whole = rpc::Status::decode(status.details()).ok();
    // A status without details, or with somebody else's, says what it says in its message.
    let whole = whole.filter(|whole| !whole.details.is_empty()).unwrap_or_else(|| rpc::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    });
    wire::from_rpc(whole)
}

#[cfg(test)]
mod tests {
    use bridge::{Detail, Kind};
    use proto::rpc;

    use super::*;

    #[test]
    fn details_travel_as_a_whole_status() {
        let status = of(BuildError::new(Kind::User, "no").with_detail(Detail::Exit(3)));
        assert_eq!((status.code(), status.message()), (Code::Unknown, "no"));
        let whole = rpc::Status::decode(status.details()).unwrap();
        assert_eq!((whole.code, &*whole.message, whole.details.len()), (2, "no", 1));
        let again = error(&status);
        assert_eq!((again.message(), again.details().len()), ("no", 1));
        let plain = of(BuildError::cancelled());
        assert!(plain.details().is_empty());
        assert_eq!(error(&plain).kind(), Kind::Cancelled);
    }
}
