//! From a node to what it says.

use super::flag::Flags;
use super::run::read_bare;
use super::{
    Action, Argument, Instruction, InstructionError, SourceKind, copy, description, healthcheck,
    run,
};
use crate::syntax::{Arguments, Node, Pair};

/// Reads one instruction other than `FROM`.
pub(crate) fn read(node: &Node) -> Result<Instruction, InstructionError> {
    Ok(Instruction {
        keyword: node.keyword.clone(),
        code: node.original.trim().to_owned(),
        lines: node.lines,
        comments: node.comments.clone(),
        action: action(node)?,
    })
}

fn action(node: &Node) -> Result<Action, InstructionError> {
    Ok(match node.keyword.to_ascii_lowercase().as_str() {
        "add" => Action::Copy(copy::read(node, SourceKind::Add)?),
        "arg" => Action::Arg(arguments(node)?),
        "cmd" => Action::Cmd(read_bare(node)?),
        "copy" => Action::Copy(copy::read(node, SourceKind::Copy)?),
        "entrypoint" => Action::Entrypoint(read_bare(node)?),
        "env" => Action::Env(pairs(node, "ENV")?),
        "expose" => Action::Expose(expose(node)?),
        "healthcheck" => Action::Healthcheck(healthcheck::read(node)?),
        "label" => Action::Label(pairs(node, "LABEL")?),
        "maintainer" => Action::Maintainer(single(node, "MAINTAINER")?),
        "onbuild" => Action::Onbuild(onbuild(node)?),
        "run" => Action::Run(run::read(node)?),
        "shell" => Action::Shell(shell(node)?),
        // Flags before a signal have always been ignored.
        "stopsignal" => match node.arguments.to_list().pop() {
            Some(signal) => Action::StopSignal(signal),
            None => return Err(InstructionError::exactly_one("STOPSIGNAL")),
        },
        "user" => Action::User(single(node, "USER")?),
        "volume" => Action::Volume(volumes(node)?),
        "workdir" => Action::Workdir(single(node, "WORKDIR")?),
        _ => return Err(InstructionError::Unknown(node.keyword.clone())),
    })
}

fn single(node: &Node, keyword: &'static str) -> Result<String, InstructionError> {
    let last = node.arguments.to_list().pop();
    let text = last.ok_or(InstructionError::exactly_one(keyword))?;
    Flags::read(&node.flags, &[])?;
    Ok(text)
}

fn pairs(node: &Node, keyword: &'static str) -> Result<Vec<Pair>, InstructionError> {
    Flags::read(&node.flags, &[])?;
    let Arguments::Pairs(pairs) = &node.arguments else {
        return Err(InstructionError::at_least_one(keyword));
    };
    if pairs.iter().any(|pair| pair.key.is_empty()) {
        return Err(InstructionError::Arguments { keyword, rule: "names can not be blank" });
    }
    Ok(pairs.clone())
}

fn arguments(node: &Node) -> Result<Vec<Argument>, InstructionError> {
    let words = node.arguments.to_list();
    if words.is_empty() {
        return Err(InstructionError::at_least_one("ARG"));
    }
    let argument = |word: &String| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => {
                let rule = "names can not be blank";
                return Err(InstructionError::Arguments { keyword: "ARG", rule });
            }
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let description = description(&node.comments, name);
        Ok(Argument { name: name.to_owned(), default, description })
    };
    words.iter().map(argument).collect()
}

fn expose(node: &Node) -> Result<Vec<String>, InstructionError> {
    let mut ports = node.arguments.to_list();
    if ports.is_empty() {
        return Err(InstructionError::at_least_one("EXPOSE"));
    }
    Flags::read(&node.flags, &[])?;
    ports.sort();
    Ok(ports)
}

fn volumes(node: &Node) -> Result<Vec<String>, InstructionError> {
    let words = node.arguments.to_list();
    if words.is_empty() {
        return Err(InstructionError::at_least_one("VOLUME"));
    }
    Flags::read(&node.flags, &[])?;
    let volumes: Vec<_> = words.iter().map(|word| word.trim().to_owned()).collect();
    if volumes.iter().any(String::is_empty) {
        let rule = "specified can not be an empty string";
        return Err(InstructionError::Arguments { keyword: "VOLUME", rule });
    }
    Ok(volumes)
}

fn shell(node: &Node) -> Result<Vec<String>, InstructionError> {
    Flags::read(&node.flags, &[])?;
    let words = node.arguments.to_list();
    if words.is_empty() {
        return Err(InstructionError::at_least_one("SHELL"));
    }
    if !node.arguments.is_json() {
        let rule = "requires the arguments to be in JSON form";
        return Err(InstructionError::Arguments { keyword: "SHELL", rule });
    }
    Ok(words)
}

fn onbuild(node: &Node) -> Result<String, InstructionError> {
    let words = node.arguments.to_list();
    let Some(first) = words.first() else {
        return Err(InstructionError::at_least_one("ONBUILD"));
    };
    Flags::read(&node.flags, &[])?;
    let trigger = first.trim().to_uppercase();
    match trigger.as_str() {
        "ONBUILD" => {
            let text = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
            return Err(InstructionError::Trigger(text.to_owned()));
        }
        "MAINTAINER" | "FROM" => {
            let text = format!("{trigger} isn't allowed as an ONBUILD trigger");
            return Err(InstructionError::Trigger(text));
        }
        _ => {}
    }
    let text = node.original.trim_start();
    let mut kept = text[node.keyword.len()..].trim_start().to_owned();
    for heredoc in &node.heredocs {
        kept.push('\n');
        kept.push_str(&heredoc.content);
        kept.push_str(&heredoc.name);
    }
    Ok(kept)
}
