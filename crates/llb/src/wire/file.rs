//! The operation that changes files.

use proto::pb;

use crate::error::OpError;
use crate::{
    Action, ActionInput, CopyFiles, CopyMode, FileAction, FileOp, MakeDir, MakeFile, Owner, Remove,
    Symlink, UserRef,
};

pub(super) fn file(file: pb::FileOp, inputs: usize) -> Result<FileOp, OpError> {
    if file.actions.is_empty() {
        return Err(OpError::Missing { kind: "file", missing: "actions" });
    }
    let count = Counts { inputs, actions: file.actions.len() };
    let actions: Vec<FileAction> =
        file.actions.into_iter().map(|wire| action(wire, count)).collect::<Result<_, _>>()?;
    check_outputs(&actions)?;
    let file = FileOp { actions };
    if file.order().len() != count.actions {
        return Err(OpError::ActionLoop);
    }
    Ok(file)
}

/// How many things the indexes of an action count: first the inputs, then the actions.
#[derive(Clone, Copy)]
struct Counts {
    inputs: usize,
    actions: usize,
}

impl Counts {
    fn input(self, given: i64) -> Result<ActionInput, OpError> {
        if given == -1 {
            return Ok(ActionInput::Scratch);
        }
        let count = self.inputs + self.actions;
        match usize::try_from(given) {
            Ok(index) if index < self.inputs => Ok(ActionInput::Input(index)),
            Ok(index) if index < count => Ok(ActionInput::Action(index - self.inputs)),
            _ => Err(OpError::Index { what: "file action input", index: given, count }),
        }
    }
}

fn check_outputs(actions: &[FileAction]) -> Result<(), OpError> {
    let mut outputs: Vec<u32> = actions.iter().filter_map(|action| action.output).collect();
    outputs.sort_unstable();
    let numbered = outputs.iter().zip(0..).all(|(output, expected)| *output == expected);
    if outputs.is_empty() || !numbered { Err(OpError::Outputs) } else { Ok(()) }
}

fn action(wire: pb::FileAction, count: Counts) -> Result<FileAction, OpError> {
    let output = match wire.output {
        -1 => None,
        given => Some(u32::try_from(given).map_err(|_| OpError::Outputs)?),
    };
    let action = wire.action.ok_or(OpError::Missing { kind: "file", missing: "known action" })?;
    Ok(FileAction {
        input: count.input(wire.input)?,
        secondary_input: count.input(wire.secondary_input)?,
        output,
        action: match action {
            pb::file_action::Action::Copy(copy) => Action::Copy(self::copy(copy, count)?),
            pb::file_action::Action::Mkfile(file) => Action::MakeFile(MakeFile {
                path: file.path,
                mode: file.mode.cast_unsigned(),
                data: file.data,
                owner: owner(file.owner, count)?,
                timestamp: timestamp(file.timestamp),
            }),
            pb::file_action::Action::Mkdir(dir) => Action::MakeDir(MakeDir {
                path: dir.path,
                mode: dir.mode.cast_unsigned(),
                make_parents: dir.make_parents,
                owner: owner(dir.owner, count)?,
                timestamp: timestamp(dir.timestamp),
            }),
            pb::file_action::Action::Rm(remove) => Action::Remove(Remove {
                path: remove.path,
                allow_not_found: remove.allow_not_found,
                allow_wildcard: remove.allow_wildcard,
            }),
            pb::file_action::Action::Symlink(link) => Action::Symlink(Symlink {
                target: link.oldpath,
                path: link.newpath,
                owner: owner(link.owner, count)?,
                timestamp: timestamp(link.timestamp),
            }),
        },
    })
}

fn copy(wire: pb::FileActionCopy, count: Counts) -> Result<CopyFiles, OpError> {
    let mode = match wire.mode {
        _ if !wire.mode_str.is_empty() => Some(CopyMode::Symbolic(wire.mode_str)),
        -1 => None,
        bits => Some(CopyMode::Bits(bits.cast_unsigned())),
    };
    Ok(CopyFiles {
        src: wire.src,
        dest: wire.dest,
        owner: owner(wire.owner, count)?,
        mode,
        follow_symlink: wire.follow_symlink,
        dir_copy_contents: wire.dir_copy_contents,
        attempt_unpack: wire.attempt_unpack_docker_compatibility,
        create_dest_path: wire.create_dest_path,
        allow_wildcard: wire.allow_wildcard,
        allow_empty_wildcard: wire.allow_empty_wildcard,
        timestamp: timestamp(wire.timestamp),
        include_patterns: wire.include_patterns,
        exclude_patterns: wire.exclude_patterns,
        always_replace: wire.always_replace_existing_dest_paths,
        required_paths: wire.required_paths,
    })
}

fn timestamp(wire: i64) -> Option<i64> {
    (wire != -1).then_some(wire)
}

fn owner(wire: Option<pb::ChownOpt>, count: Counts) -> Result<Option<Owner>, OpError> {
    let Some(wire) = wire else { return Ok(None) };
    Ok(Some(Owner { user: user(wire.user, count)?, group: user(wire.group, count)? }))
}

fn user(wire: Option<pb::UserOpt>, count: Counts) -> Result<Option<UserRef>, OpError> {
    match wire.and_then(|wire| wire.user) {
        None => Ok(None),
        Some(pb::user_opt::User::ById(id)) => Ok(Some(UserRef::Id(id))),
        Some(pb::user_opt::User::ByName(named)) => {
            Ok(Some(UserRef::Name { name: named.name, input: count.input(named.input)? }))
        }
    }
}
