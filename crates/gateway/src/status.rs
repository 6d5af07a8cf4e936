//! The one place where an error of a build becomes the status of a call.

use bridge::BuildError;
use prost::Message as _;
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
        assert!(of(BuildError::cancelled()).details().is_empty());
    }
}
