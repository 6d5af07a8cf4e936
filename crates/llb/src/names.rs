//! The names that vertices show when the client gave none (protocol page `control.md` §4.3).

use crate::{Action, FileAction, Op};

/// Names of stacked merges contain each other; beyond this many bytes they are cut.
const MAX_COMPOSED: usize = 4096;

/// Returns the name of an operation whose inputs are named `inputs`.
pub(crate) fn default_name(op: &Op, inputs: &[&str]) -> String {
    match op {
        Op::Source(source) => source.identifier.clone(),
        Op::Exec(exec) => exec.args.join(" "),
        Op::File(file) => file.actions.iter().map(action_name).collect::<Vec<_>>().join(", "),
        Op::Merge => cut(format!("merge ({})", inputs.join(", "))),
        Op::Diff { lower, upper } => {
            let side = |side: &Option<usize>| match side.and_then(|index| inputs.get(index)) {
                Some(name) => format!("({name})"),
                None => "scratch".to_owned(),
            };
            cut(format!("diff {} -> {}", side(lower), side(upper)))
        }
        Op::Build(_) => "build".to_owned(),
        Op::Passthrough(passthrough) => format!("passthrough {}", passthrough.id),
    }
}

fn action_name(action: &FileAction) -> String {
    match &action.action {
        Action::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
        Action::MakeDir(dir) => format!("mkdir {}", dir.path),
        Action::MakeFile(file) => format!("mkfile {}", file.path),
        Action::Remove(remove) => format!("rm {}", remove.path),
        Action::Symlink(link) => format!("symlink {} -> {}", link.path, link.target),
    }
}

fn cut(mut name: String) -> String {
    if name.len() > MAX_COMPOSED {
        name.truncate(name.floor_char_boundary(MAX_COMPOSED));
        name.push('…');
    }
    name
}
