//! The command line, and the one variable of the environment that stands in for a flag.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::quantity::{parse_duration, parse_size};

/// Cache volumes, seen, changed and used.
#[derive(Debug, Parser)]
#[command(name = "larder", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where the daemon listens: `unix:///path` or `tcp://host:port`
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "LARDER_HOST",
        default_value = "unix:///run/larder/larderd.sock"
    )]
    pub addr: String,
    /// The daemon's root directory: volumes are reached on disk, without the daemon. `path` and `run`
    /// always do so [default for these: /var/lib/larder]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
    /// How answers are written
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See, change and use cache volumes
    #[command(alias = "volumes", arg_required_else_help = true)]
    Volume {
        #[command(subcommand)]
        command: VolumeCommand,
    },
    /// Write what a shell needs to complete commands
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls {
        /// Only those of this namespace
        #[arg(long)]
        namespace: Option<String>,
        /// Write keys only, one a line
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show volumes with their versions, leases and policy
    Inspect(Volumes),
    /// Remove volumes that nobody uses
    #[command(visible_alias = "remove")]
    Rm(Volumes),
    /// Make volumes empty for those who come; whoever uses one keeps what they have
    Reset(Volumes),
    /// Keep volumes whatever the need for space
    Pin(Volumes),
    /// Let pinned volumes go again when there is need for space
    Unpin(Volumes),
    /// Show a volume's policy, or decide about it by name
    Policy(PolicyArguments),
    /// Make the content of an earlier version the newest
    Rollback {
        #[command(flatten)]
        volume: Volume,
        /// The version's number, as `inspect` shows it
        version: u64,
    },
    /// Make a new volume that begins with the content of another
    Fork {
        #[command(flatten)]
        volume: Volume,
        /// The id of the new volume
        to: OsString,
        /// The namespace of the new volume [default: that of the old one]
        #[arg(long, value_name = "NAMESPACE")]
        to_namespace: Option<String>,
    },
    /// Print where a volume is: the directory of its newest version, or of each layer of it
    Path(Volume),
    /// List a directory of a volume
    Browse {
        #[command(flatten)]
        volume: Volume,
        /// The directory, from the volume's root
        #[arg(default_value = "/")]
        path: OsString,
    },
    /// Run a command of this machine with a volume mounted, under the same lease as a build's step
    Run(RunArguments),
    /// Remove volumes that are expired or over their quota, or that nobody has used
    Prune {
        /// Only those of this namespace
        #[arg(long)]
        namespace: Option<String>,
        /// Only those whose id matches: `*` stands for any text, `?` for one byte
        #[arg(long, value_name = "PATTERN", default_value = "*")]
        id: String,
        /// Remove every volume that may go
        #[arg(long, short)]
        all: bool,
        /// Keep those that were used within this time
        #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0")]
        unused_for: Duration,
        /// Remove those used least recently until all together take no more than this
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        keep_storage: Option<u64>,
    },
}

/// Which volume.
#[derive(Debug, Args)]
pub(crate) struct Volume {
    /// The volume: its id, or its key or the beginning of it
    pub volume: OsString,
    /// The namespace of the id
    #[arg(long, default_value = "default")]
    pub namespace: String,
}

/// Which volumes.
#[derive(Debug, Args)]
pub(crate) struct Volumes {
    /// The volumes: their ids, or their keys or the beginnings of them
    #[arg(required = true)]
    pub volumes: Vec<OsString>,
    /// The namespace of the ids
    #[arg(long, default_value = "default")]
    pub namespace: String,
}

/// What is to be decided.
#[derive(Debug, Args)]
pub(crate) struct PolicyArguments {
    #[command(flatten)]
    pub volume: Volume,
    /// Leave everything but the pin to the daemon's rules, before the other flags
    #[arg(long)]
    pub clear: bool,
    /// What becomes of a fork when the newest version has changed meanwhile
    #[arg(long, value_enum)]
    pub merge: Option<Merge>,
    /// What becomes of the writes of a step that ends with an error
    #[arg(long, value_enum)]
    pub on_failure: Option<Salvage>,
    /// What becomes of the writes of a step that is killed, cancelled or cut off
    #[arg(long, value_enum)]
    pub on_interrupt: Option<Salvage>,
    /// What a build without cache finds
    #[arg(long, value_enum)]
    pub no_cache: Option<NoCache>,
    /// The most bytes it may take
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub quota: Option<u64>,
    /// The most files it may have
    #[arg(long, value_name = "NUMBER")]
    pub quota_inodes: Option<u64>,
    /// Up to how many bytes it is not removed for space
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub floor: Option<u64>,
    /// How long it is kept unused
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expiry: Option<Duration>,
    /// How long a step waits for it before it fails
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub wait_limit: Option<Duration>,
    /// How forks are made
    #[arg(long, value_enum)]
    pub driver: Option<Driver>,
    /// How many versions are kept
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub versions: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Merge {
    LastWriter,
    FirstWriter,
    Union,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Salvage {
    Keep,
    Discard,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum NoCache {
    Fresh,
    Keep,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Driver {
    Auto,
    Overlay,
    Reflink,
    Subvolume,
}

/// What is to be run.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The volume's id; it is made if there is none
    #[arg(long, value_name = "ID")]
    pub id: OsString,
    /// Where the command sees it; made if there is no such directory
    #[arg(long, value_name = "DIRECTORY")]
    pub target: PathBuf,
    /// How it goes together with other uses
    #[arg(long, value_enum, default_value_t = Sharing::Shared)]
    pub sharing: Sharing,
    /// The namespace of the id
    #[arg(long, default_value = "default")]
    pub namespace: String,
    /// The owner of the volume's root
    #[arg(long)]
    pub uid: Option<u32>,
    /// The group of the volume's root
    #[arg(long)]
    pub gid: Option<u32>,
    /// The mode of the volume's root, in octal
    #[arg(long, value_parser = parse_mode)]
    pub mode: Option<u32>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Sharing {
    /// All at once, in one tree
    Shared,
    /// One after the other
    Locked,
    /// Each in a fork of its own
    Private,
    /// Without writing
    #[value(alias = "readonly")]
    Ro,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 && !digits.starts_with('+') => Ok(mode),
        _ => Err(format!("`{text}` is not a mode: write octal digits up to 7777")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0755"), Ok(0o755));
        assert_eq!(parse_mode("1777"), Ok(0o1777));
        for text in ["", "8", "77777", "-1", "+7", "rwx"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_after_the_command_are_the_commands() {
        let line = ["larder", "volume", "run", "--id", "x", "--target", "/t", "--", "ls", "--id"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        let Command::Volume { command: VolumeCommand::Run(run) } = arguments.command else {
            panic!("not a run");
        };
        assert_eq!(run.command, ["ls", "--id"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            &["volume", "rm"][..],
            &["volume", "policy", "x", "--versions", "0"],
            &["volume", "policy", "x", "--merge", "best"],
            &["volume", "run", "--id", "x", "--", "ls"],
            &["volume", "run", "--id", "x", "--target", "/t"],
            &["volume", "rollback", "x", "first"],
            &["volume", "prune", "--keep-storage", "lots"],
        ] {
            let line = ["larder"].iter().chain(line);
            assert_eq!(Arguments::try_parse_from(line).unwrap_err().exit_code(), 2);
        }
    }
}
