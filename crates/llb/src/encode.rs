//! Writing operations byte for byte as Go's deterministic protobuf encoding does.
//!
//! An operation's digest is over its bytes, so two frontends share a vertex only if they write it
//! alike: fields in ascending order, the member of a oneof last, defaults left out, map entries sorted
//! and always with key and value, numbers of a list packed (protocol page `llb.md` §2).

mod exec;
mod file;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{BuildOp, Edge, Op, PassthroughOp, Platform, SourceOp};

/// A protobuf message being written.
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The mask leaves seven bits.
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Writes a number even when it is the default.
    fn always(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    fn unsigned(&mut self, field: u32, value: u64) -> &mut Self {
        if value != 0 {
            self.always(field, value);
        }
        self
    }

    /// Negative numbers take ten bytes, also those of 32 bits.
    fn signed(&mut self, field: u32, value: i64) -> &mut Self {
        self.unsigned(field, value.cast_unsigned())
    }

    fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        self.unsigned(field, u64::from(value))
    }

    fn bytes_always(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.bytes_always(field, value) }
    }

    fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    /// Writes every text, also the empty ones: a list has no defaults.
    fn texts(&mut self, field: u32, values: &[String]) -> &mut Self {
        for value in values {
            self.bytes_always(field, value.as_bytes());
        }
        self
    }

    /// Writes a message, also an empty one. It is written in its place, and moved by the few bytes that
    /// its length takes beyond one.
    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        let at = self.0.len();
        self.0.push(0);
        fill(self);
        let end = self.0.len();
        let length = end - at - 1;
        if length < 0x80 {
            // Most are short.
            self.0[at] = length as u8;
            return self;
        }
        // The length is written behind the message first: then it is known how long it is itself.
        self.varint(length as u64);
        let mut written = [0; 10];
        let taken = self.0.len() - end;
        written[..taken].copy_from_slice(&self.0[end..]);
        self.0.copy_within(at + 1..end, at + taken);
        self.0[at..at + taken].copy_from_slice(&written[..taken]);
        self.0.truncate(end + taken - 1);
        self
    }

    fn packed(&mut self, field: u32, values: impl IntoIterator<Item = i64>) -> &mut Self {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return self;
        }
        self.message(field, |inner| values.for_each(|value| inner.varint(value.cast_unsigned())))
    }

    fn map(&mut self, field: u32, values: &BTreeMap<String, String>) -> &mut Self {
        for (key, value) in values {
            self.message(field, |entry| {
                entry.bytes_always(1, key.as_bytes()).bytes_always(2, value.as_bytes());
            });
        }
        self
    }
}

/// The index that stands for nothing.
const NONE: i64 = -1;

/// Room for nearly every operation; its bytes are copied out of it.
const USUAL: usize = 1000;

/// Returns the bytes of an operation.
pub(crate) fn operation(
    op: &Op,
    inputs: &[Edge],
    platform: Option<&Platform>,
    constraints: &[String],
) -> Bytes {
    let mut message = Message(Vec::with_capacity(USUAL));
    write_inputs(&mut message, inputs);
    if let Some(platform) = platform {
        message.message(10, |message| write_platform(message, platform));
    }
    message.message(11, |message| {
        message.texts(1, constraints);
    });
    match op {
        Op::Exec(exec) => message.message(2, |message| exec::write(message, exec)),
        Op::Source(source) => message.message(3, |message| write_source(message, source)),
        Op::File(file) => message.message(4, |message| file::write(message, file, inputs.len())),
        Op::Build(build) => message.message(5, |message| write_build(message, build)),
        Op::Merge => message.message(6, |message| write_merge(message, inputs.len())),
        Op::Diff { lower, upper } => message.message(7, |message| {
            message.message(1, |side| {
                side.signed(1, index(*lower));
            });
            message.message(2, |side| {
                side.signed(1, index(*upper));
            });
        }),
        Op::Passthrough(passthrough) => {
            message.message(8, |message| write_passthrough(message, passthrough))
        }
    };
    Bytes::copy_from_slice(&message.0)
}

/// Returns the bytes of the operation that ends a definition.
pub(crate) fn terminal(root: &Edge) -> Bytes {
    let mut message = Message(Vec::with_capacity(USUAL));
    write_inputs(&mut message, std::slice::from_ref(root));
    Bytes::copy_from_slice(&message.0)
}

fn index(index: Option<usize>) -> i64 {
    // An index into a vertex' inputs: far below the limit.
    index.map_or(NONE, |index| index as i64)
}

fn write_inputs(message: &mut Message, inputs: &[Edge]) {
    for input in inputs {
        message.message(1, |message| {
            message.text(1, &input.vertex.to_string()).unsigned(2, u64::from(input.output));
        });
    }
}

fn write_platform(message: &mut Message, platform: &Platform) {
    message
        .text(1, &platform.architecture)
        .text(2, &platform.os)
        .text(3, &platform.variant)
        .text(4, &platform.os_version)
        .texts(5, &platform.os_features);
}

fn write_source(message: &mut Message, source: &SourceOp) {
    message.text(1, &source.identifier).map(2, &source.attributes);
}

fn write_build(message: &mut Message, build: &BuildOp) {
    message.signed(1, NONE);
    for (name, input) in &build.inputs {
        message.message(2, |entry| {
            entry.bytes_always(1, name.as_bytes()).message(2, |value| {
                value.signed(1, index(Some(*input)));
            });
        });
    }
    message.map(4, &build.attributes);
}

fn write_merge(message: &mut Message, count: usize) {
    for input in 0..count {
        message.message(1, |message| {
            message.signed(1, index(Some(input)));
        });
    }
}

fn write_passthrough(message: &mut Message, passthrough: &PassthroughOp) {
    let outputs = passthrough.outputs.iter().map(|input| index(Some(*input)));
    message.text(1, &passthrough.id).packed(2, outputs);
}
