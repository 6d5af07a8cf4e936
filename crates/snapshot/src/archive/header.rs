//! The headers that are written: POSIX `ustar`, with PAX records before it where it does not suffice.
//! The bytes are those of Go's `archive/tar` in its PAX format, so that layers look like everyone's.

use std::collections::BTreeMap;

use super::format::{BLOCK, Field, field};
use crate::attributes::Xattrs;

/// What is written of an entry.
#[derive(Debug, Clone)]
pub(super) struct PlainHeader {
    pub(super) name: Vec<u8>,
    pub(super) kind: u8,
    pub(super) target: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Xattrs,
}

impl Default for PlainHeader {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            kind: b'0',
            target: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            modified: 0,
            device: (0, 0),
            xattrs: Xattrs::new(),
        }
    }
}

impl PlainHeader {
    /// Returns the header's blocks, the PAX records first if there are any.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = Block::new(self.kind);
        let mut records = BTreeMap::new();
        for (key, value, at) in
            [("path", &self.name, field::NAME), ("linkpath", &self.target, field::TARGET)]
        {
            if value.len() > at.len() || !value.is_ascii() {
                records.insert(key.as_bytes().to_vec(), value.clone());
            }
            block.text(at, value);
        }
        for (key, value, at) in [
            ("uid", i64::from(self.uid), field::UID),
            ("gid", i64::from(self.gid), field::GID),
            ("size", i64::try_from(self.size).unwrap_or(i64::MAX), field::SIZE),
            ("mtime", self.modified, field::MODIFIED),
        ] {
            if !block.number(at, value) {
                records.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
            }
        }
        for (key, value) in &self.xattrs {
            records.insert([b"SCHILY.xattr.", key.to_bytes()].concat(), value.clone());
        }
        for (value, at) in
            [(self.mode, field::MODE), (self.device.0, field::MAJOR), (self.device.1, field::MINOR)]
        {
            block.number(at, i64::from(value));
        }
        let mut encoded = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            encoded = self.extension(&records);
        }
        encoded.extend_from_slice(&block.finish());
        encoded
    }

    fn extension(&self, records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut block = Block::new(b'x');
        let (directory, file) = match self.trimmed_name() {
            [] => (&b""[..], &b""[..]),
            name => match name.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => (&name[..=slash], &name[slash + 1..]),
                None => (&b""[..], name),
            },
        };
        block.text(field::NAME, &[directory, b"PaxHeaders.0/", file].concat());
        for at in [field::MODE, field::UID, field::GID, field::MODIFIED] {
            block.number(at, 0);
        }
        block.number(field::SIZE, i64::try_from(data.len()).unwrap_or(i64::MAX));
        let mut encoded = block.finish().to_vec();
        encoded.extend_from_slice(&data);
        encoded.resize(encoded.len().next_multiple_of(BLOCK), 0);
        encoded
    }

    fn trimmed_name(&self) -> &[u8] {
        self.name.strip_suffix(b"/").unwrap_or(&self.name)
    }
}

/// Returns `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + decimal_digits(rest);
    length = rest + decimal_digits(length);
    let mut record = format!("{length} ").into_bytes();
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

const fn decimal_digits(number: usize) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// A header being filled.
struct Block([u8; BLOCK]);

impl Block {
    fn new(kind: u8) -> Self {
        let mut block = [0; BLOCK];
        block[field::KIND.start] = kind;
        block[field::MAGIC].copy_from_slice(b"ustar\0");
        block[field::VERSION].copy_from_slice(b"00");
        Self(block)
    }

    /// Writes what fits of a text, without what is not ASCII; the whole of it is in a PAX record then.
    fn text(&mut self, at: Field, text: &[u8]) {
        let ascii = text.iter().copied().filter(u8::is_ascii);
        for (byte, value) in self.0[at].iter_mut().zip(ascii) {
            *byte = value;
        }
    }

    /// Writes an octal number with a NUL at its end. Returns false, and writes zero, if it does not
    /// fit.
    fn number(&mut self, at: Field, value: i64) -> bool {
        let digits = at.len() - 1;
        let fits = value >= 0 && u32::try_from(digits * 3).is_ok_and(|bits| value >> bits == 0);
        let shown = if fits { value } else { 0 };
        self.0[at.start..at.start + digits]
            .copy_from_slice(format!("{shown:0digits$o}").as_bytes());
        fits
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[field::SUM].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        let text = format!("{sum:06o}\0 ");
        self.0[field::SUM].copy_from_slice(text.as_bytes());
        self.0
    }
}
