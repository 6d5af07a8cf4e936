//! The operation that changes files.

use super::{Message, NONE, index};
use crate::{Action, ActionInput, CopyFiles, CopyMode, FileAction, FileOp, Owner, UserRef};

/// The place of a message's owner and time, and how the two are written.
struct Tail<'a> {
    fields: (u32, u32),
    owner: &'a Option<Owner>,
    timestamp: Option<i64>,
    inputs: usize,
}

pub(super) fn write(message: &mut Message, file: &FileOp, inputs: usize) {
    for action in &file.actions {
        message.message(2, |message| write_action(message, action, inputs));
    }
}

/// Results of actions are numbered after the inputs.
fn input(input: ActionInput, inputs: usize) -> i64 {
    match input {
        ActionInput::Scratch => NONE,
        ActionInput::Input(at) => index(Some(at)),
        ActionInput::Action(at) => index(Some(inputs + at)),
    }
}

fn write_action(message: &mut Message, action: &FileAction, inputs: usize) {
    message
        .signed(1, input(action.input, inputs))
        .signed(2, input(action.secondary_input, inputs))
        .signed(3, action.output.map_or(NONE, i64::from));
    match &action.action {
        Action::Copy(copy) => message.message(4, |message| write_copy(message, copy, inputs)),
        Action::MakeFile(file) => message.message(5, |message| {
            message.text(1, &file.path).unsigned(2, mode(file.mode)).bytes(3, &file.data);
            let (owner, timestamp) = (&file.owner, file.timestamp);
            write_tail(message, &Tail { fields: (4, 5), owner, timestamp, inputs });
        }),
        Action::MakeDir(dir) => message.message(6, |message| {
            message.text(1, &dir.path).unsigned(2, mode(dir.mode)).flag(3, dir.make_parents);
            let (owner, timestamp) = (&dir.owner, dir.timestamp);
            write_tail(message, &Tail { fields: (4, 5), owner, timestamp, inputs });
        }),
        Action::Remove(remove) => message.message(7, |message| {
            message
                .text(1, &remove.path)
                .flag(2, remove.allow_not_found)
                .flag(3, remove.allow_wildcard);
        }),
        Action::Symlink(link) => message.message(8, |message| {
            message.text(1, &link.target).text(2, &link.path);
            let (owner, timestamp) = (&link.owner, link.timestamp);
            write_tail(message, &Tail { fields: (3, 4), owner, timestamp, inputs });
        }),
    };
}

fn write_copy(message: &mut Message, copy: &CopyFiles, inputs: usize) {
    message.text(1, &copy.src).text(2, &copy.dest);
    write_owner(message, 3, copy.owner.as_ref(), inputs);
    match &copy.mode {
        None => message.signed(4, NONE),
        Some(CopyMode::Bits(bits)) => message.unsigned(4, mode(*bits)),
        Some(CopyMode::Symbolic(_)) => message,
    };
    message
        .flag(5, copy.follow_symlink)
        .flag(6, copy.dir_copy_contents)
        .flag(7, copy.attempt_unpack)
        .flag(8, copy.create_dest_path)
        .flag(9, copy.allow_wildcard)
        .flag(10, copy.allow_empty_wildcard)
        .signed(11, copy.timestamp.unwrap_or(NONE))
        .texts(12, &copy.include_patterns)
        .texts(13, &copy.exclude_patterns)
        .flag(14, copy.always_replace);
    if let Some(CopyMode::Symbolic(change)) = &copy.mode {
        message.text(15, change);
    }
    message.texts(16, &copy.required_paths);
}

/// The field is signed and of 32 bits: a bit pattern above becomes a negative number.
fn mode(bits: u32) -> u64 {
    i64::from(bits.cast_signed()).cast_unsigned()
}

fn write_tail(message: &mut Message, tail: &Tail<'_>) {
    write_owner(message, tail.fields.0, tail.owner.as_ref(), tail.inputs);
    message.signed(tail.fields.1, tail.timestamp.unwrap_or(NONE));
}

fn write_owner(message: &mut Message, field: u32, owner: Option<&Owner>, inputs: usize) {
    let Some(owner) = owner else { return };
    message.message(field, |message| {
        for (field, user) in [(1, &owner.user), (2, &owner.group)] {
            if let Some(user) = user {
                message.message(field, |message| write_user(message, user, inputs));
            }
        }
    });
}

/// A choice that was made is written even when its value is the default.
fn write_user(message: &mut Message, user: &UserRef, inputs: usize) {
    match user {
        UserRef::Id(id) => message.always(2, u64::from(*id)),
        UserRef::Name { name, input: tree } => {
            message.message(1, |message| {
                message.text(1, name).signed(2, input(*tree, inputs));
            });
        }
    }
}
