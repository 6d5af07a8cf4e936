//! `RUN`, and the command lines of `CMD` and `ENTRYPOINT`.

use bridge::split_csv;

use super::flag::{Flags, Takes};
use super::{InstructionError, MountError, MountFlag, parse_bool};
use crate::quote::quoted;
use crate::syntax::{Heredoc, Node};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: CommandLine,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`, in order.
    pub devices: Vec<Device>,
}

/// A command line and the here-documents in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The words of the exec form, or one text for the shell.
    pub words: Vec<String>,
    /// Whether the shell runs it.
    pub shell: bool,
    /// The here-documents, in order.
    pub heredocs: Vec<Heredoc>,
}

/// The network of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// As the build has it.
    Default,
    /// None at all.
    None,
    /// The machine's own.
    Host,
}

/// The confinement of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// As usual.
    Sandbox,
    /// None.
    Insecure,
}

/// A device that a command needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

const FLAGS: [(&str, Takes); 4] = [
    ("mount", Takes::Texts),
    ("network", Takes::Text),
    ("security", Takes::Text),
    ("device", Takes::Texts),
];

pub(super) fn read(node: &Node) -> Result<Run, InstructionError> {
    let flags = Flags::read(&node.flags, &FLAGS)?;
    // Of several mistakes the first in this order is told.
    let devices = flags.texts("device");
    let devices = devices.iter().map(|text| device(text)).collect::<Result<_, _>>()?;
    let mounts = flags.texts("mount");
    let mounts = mounts.iter().map(|text| MountFlag::new(text)).collect::<Result<_, _>>()?;
    let combination = |text| InstructionError::Mount(MountError::Combination(text));
    let network = match flags.text("network") {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => {
            return Err(combination(format!("invalid network mode {}", quoted(other))));
        }
    };
    let security = match flags.text("security") {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => {
            return Err(combination(format!("security {} is not valid", quoted(other))));
        }
    };
    Ok(Run { command: command_line(node), mounts, network, security, devices })
}

/// Reads an instruction that is nothing but a command line.
pub(super) fn read_bare(node: &Node) -> Result<CommandLine, InstructionError> {
    Flags::read(&node.flags, &[])?;
    Ok(command_line(node))
}

fn command_line(node: &Node) -> CommandLine {
    CommandLine {
        words: node.arguments.to_list(),
        shell: !node.arguments.is_json(),
        heredocs: node.heredocs.clone(),
    }
}

fn device(text: &str) -> Result<Device, MountError> {
    let mut device = Device { name: String::new(), required: false };
    for field in split_csv(text).map_err(|error| MountError::Csv("devices", error))? {
        match field.split_once('=') {
            None if field.eq_ignore_ascii_case("required") => device.required = true,
            None if device.name.is_empty() => device.name = field,
            None => return Err(MountError::NoValue(field)),
            Some((key, value)) => match key.to_ascii_lowercase().as_str() {
                "name" if device.name.is_empty() => device.name = value.to_owned(),
                "name" => {
                    let text = format!("device name already set to {}", device.name);
                    return Err(MountError::Combination(text));
                }
                "required" => {
                    let (key, value) = ("required".to_owned(), value.to_owned());
                    device.required = parse_bool(&value).ok_or(MountError::Value { key, value })?;
                }
                // `vendor.com/class=name` is a name.
                _ if device.name.is_empty() => device.name = field,
                key => {
                    let key = key.to_owned();
                    return Err(MountError::UnknownKey {
                        key,
                        field,
                        keys: vec!["name", "required"],
                    });
                }
            },
        }
    }
    Ok(device)
}
