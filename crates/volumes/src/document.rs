//! Small checksummed JSON documents: one line of JSON, and one line with its digest.

use std::fs;
use std::io;
use std::path::Path;

use digests::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::VolumeError;

/// The format of all documents, and the number in the name of the directory they are under.
pub(crate) const FORMAT: u64 = 1;

/// Returns the bytes of a document.
pub(crate) fn encode(body: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(body)?;
    let sum = Digest::of(&bytes);
    bytes.extend_from_slice(format!("\n{sum}\n").as_bytes());
    Ok(bytes)
}

/// Reads the document at `path`; none if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, VolumeError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(VolumeError::system("read", path)(error)),
    };
    decode(path, &bytes).map(Some)
}

/// Returns the body of the document `bytes`, which came from `path`.
pub(crate) fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, VolumeError> {
    let damaged = |reason: &str| VolumeError::damaged(path, reason);
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("not a text"))?;
    let mut lines = text.lines();
    let (Some(body), Some(sum), None) = (lines.next(), lines.next(), lines.next()) else {
        return Err(damaged("not a line of JSON and a line with its digest"));
    };
    if sum != Digest::of(body).to_string() {
        return Err(damaged("its digest is not that of its content"));
    }
    serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn documents_round_trip_and_every_flipped_bit_is_found(
            body: Vec<(String, u64)>, at: prop::sample::Index, bit in 0..8u8,
        ) {
            let path = Path::new("/x");
            let mut bytes = encode(&body).unwrap();
            prop_assert_eq!(&decode::<Vec<(String, u64)>>(path, &bytes).unwrap(), &body);
            let at = at.index(bytes.len() - 1);
            bytes[at] ^= 1 << bit;
            if let Ok(read) = decode::<Vec<(String, u64)>>(path, &bytes) {
                prop_assert_eq!(read, body);
            }
        }
    }
}
