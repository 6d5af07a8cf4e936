//! Compressed archives.

use std::io::{Read as _, Write as _};

use super::*;
use crate::{ArchiveFormat, Compression, compress, decompress};

const ALL: [(Compression, ArchiveFormat); 4] = [
    (Compression::Uncompressed, ArchiveFormat::Uncompressed),
    (Compression::Gzip(1), ArchiveFormat::Gzip),
    (Compression::Gzip(6), ArchiveFormat::Gzip),
    (Compression::Zstd(3), ArchiveFormat::Zstd),
];

fn compressed(content: &[u8], compression: Compression, chunk: usize) -> Vec<u8> {
    let mut writer = compress(Vec::new(), compression).unwrap();
    content.chunks(chunk).for_each(|chunk| writer.write_all(chunk).unwrap());
    writer.finish().unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 60) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_format_is_recognised_and_read_back() {
    for length in [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20] {
        let content = noise(length);
        for (compression, format) in ALL {
            let bytes = compressed(&content, compression, 70_000);
            let mut reader = decompress(bytes.as_slice()).unwrap();
            if length > 0 {
                assert_eq!(reader.format(), format, "{compression:?} {length}");
            }
            let mut found = Vec::new();
            reader.read_to_end(&mut found).unwrap();
            assert!(found == content, "{compression:?} {length}");
            assert!(reader.drain().unwrap().is_empty());
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_how_they_were_written() {
    let content = noise(3 << 20);
    for (compression, _) in ALL {
        let whole = compressed(&content, compression, content.len());
        assert!(compressed(&content, compression, 4099) == whole, "{compression:?}");
    }
    let members: Vec<u8> = content
        .chunks(1 << 20)
        .flat_map(|block| compressed(block, Compression::Gzip(6), block.len()))
        .collect();
    assert!(compressed(&content, Compression::Gzip(6), 4099) == members);
}

#[test]
fn what_is_cut_off_or_garbled_is_an_error() {
    for (compression, _) in &ALL[1..] {
        let mut bytes = compressed(&noise(100_000), *compression, 4096);
        let mut cut = decompress(&bytes[..bytes.len() / 2]).unwrap();
        assert!(cut.read_to_end(&mut Vec::new()).is_err(), "{compression:?}");
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xff);
        let mut garbled = decompress(bytes.as_slice()).unwrap();
        let mut found = Vec::new();
        let ended = garbled.read_to_end(&mut found);
        // A frame without a checksum may decode to something else; the digest above it notices.
        assert!(ended.is_err() || found != noise(100_000), "{compression:?}");
    }
}

#[test]
fn levels_out_of_range_are_errors() {
    for compression in [Compression::Gzip(10), Compression::Zstd(0), Compression::Zstd(23)] {
        assert!(compress(Vec::new(), compression).is_err(), "{compression:?}");
    }
}

#[test]
fn a_writer_that_fails_is_an_error_and_no_hang() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for (compression, _) in ALL {
        let mut writer = compress(Full, compression).unwrap();
        let written = writer.write_all(&noise(40 << 20));
        assert!(written.is_err() || writer.finish().is_err(), "{compression:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, magic in 0..4_usize) {
        let starts: [&[u8]; 4] =
            [&[], &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18]];
        let bytes = [starts[magic], &bytes].concat();
        if let Ok(mut reader) = decompress(bytes.as_slice()) {
            let _ = reader.read_to_end(&mut Vec::new());
        }
    }
}
