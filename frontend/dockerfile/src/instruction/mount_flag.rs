//! `RUN --mount`: a file tree, a cache, a secret or a socket for one command.

use bridge::split_csv;

use super::parse_bool;
use super::size::parse_size;
use crate::error::Problem;
use crate::quote::quoted;
use crate::suggest::{Case, hint};

/// A `--mount` as written. All but `from` may hold variables, so it is read again when they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The value of the flag.
    pub text: String,
    /// Its key `from`; empty if it has none.
    pub from: String,
}

/// A mount, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Which stage or image it comes from; empty for the build context.
    pub from: String,
    /// The path there; the id of a secret.
    pub source: String,
    /// Where it appears.
    pub target: String,
    /// False if the command may write.
    pub read_only: bool,
    /// How much a tmpfs may hold; 0 for no limit.
    pub size: i64,
    /// The id of a cache, a secret or a socket; empty for the default.
    pub id: String,
    /// How concurrent commands share a cache.
    pub sharing: Option<Sharing>,
    /// True if the build fails without the secret or the socket.
    pub required: bool,
    /// The variable that holds a secret; empty for its id.
    pub env: Option<String>,
    /// The mode of the file or of the cache's root.
    pub mode: Option<u32>,
    /// Their owner.
    pub uid: Option<u32>,
    /// Their group.
    pub gid: Option<u32>,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// A tree of the context, a stage or an image.
    Bind,
    /// A directory that survives the build.
    Cache,
    /// A directory in memory.
    Tmpfs,
    /// A secret of the client's.
    Secret,
    /// The client's agent.
    Ssh,
}

/// How concurrent commands share a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    Shared,
    /// Each has its own.
    Private,
    /// One after the other.
    Locked,
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Why a mount is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The value is no list of fields.
    #[error("failed to parse csv {0}: {1}")]
    Csv(&'static str, String),
    /// A field has no value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A key that mounts do not know.
    #[error("unexpected key '{key}' in '{field}'{}", hint(key, keys.iter().copied(), Case::Matters))]
    UnknownKey {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// What would have been right.
        keys: Vec<&'static str>,
    },
    /// A key that this kind of mount does not know.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherKind {
        /// The key.
        key: String,
        /// The kind of mount.
        kind: MountKind,
    },
    /// A kind that does not exist.
    #[error("unsupported mount type {}{}", quoted(.0), hint(.0, KINDS.map(|(name, _)| name), Case::Matters))]
    Kind(String),
    /// A sharing mode that does not exist.
    #[error("unsupported sharing value {}{}", quoted(.0), hint(.0, SHARINGS.map(|(name, _)| name), Case::Matters))]
    Sharing(String),
    /// A value that its key cannot have.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A number that is none.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A variable where none is allowed.
    #[error("'{0}' doesn't support variable expansion, define alias stage instead")]
    Variable(String),
    /// `mode`, `uid` or `gid` on a mount without an owner.
    #[error("{key} not allowed for {} type mounts", quoted(&kind.to_string()))]
    Owner {
        /// The key.
        key: &'static str,
        /// The kind of mount.
        kind: MountKind,
    },
    /// Keys that do not go together.
    #[error("{0}")]
    Combination(String),
}

impl std::fmt::Display for MountKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = KINDS.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| *name);
        f.write_str(name)
    }
}

impl MountFlag {
    /// Takes the value of the flag and looks for `from`.
    pub(super) fn new(text: &str) -> Result<Self, MountError> {
        let mut from = String::new();
        for field in split_csv(text).map_err(|e| MountError::Csv("mounts", e))? {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(MountError::Variable(key.to_ascii_lowercase()));
            }
            from = value.to_owned();
        }
        Ok(Self { text: text.to_owned(), from })
    }

    /// Reads the mount, with the variables in its values expanded by `expand`.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn read(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, Problem>,
    ) -> Result<Mount, Problem> {
        let fields = split_csv(&self.text).map_err(|e| wrong(MountError::Csv("mounts", e)))?;
        let mut reader = Reader::default();
        for field in fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(expand(value)?)),
                None => (field.to_ascii_lowercase(), None),
            };
            match value {
                Some(value) => reader.set(&key, value, &field),
                None => reader.switch_on(&key, &field),
            }
            .map_err(wrong)?;
        }
        reader.finish().map_err(wrong)
    }
}

fn wrong(error: MountError) -> Problem {
    Problem::from(super::InstructionError::Mount(error))
}

struct Reader {
    mount: Mount,
    /// Whether `ro` or `rw` was said.
    access_given: bool,
}

impl Default for Reader {
    fn default() -> Self {
        let mount = Mount {
            kind: MountKind::Bind,
            from: String::new(),
            source: String::new(),
            target: String::new(),
            read_only: false,
            size: 0,
            id: String::new(),
            sharing: None,
            required: false,
            env: None,
            mode: None,
            uid: None,
            gid: None,
        };
        Self { mount, access_given: false }
    }
}

impl Reader {
    fn switch_on(&mut self, key: &str, field: &str) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => self.access(true),
            "readwrite" | "rw" => self.access(false),
            "required" => self.require(key, true)?,
            _ => return Err(MountError::NoValue(field.to_owned())),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), MountError> {
        match key {
            "type" => self.mount.kind = choice(&KINDS, &value).ok_or(MountError::Kind(value))?,
            "from" => self.mount.from = value,
            "source" | "src" => self.mount.source = value,
            "target" | "dst" | "destination" => self.mount.target = value,
            "readonly" | "ro" => self.access(truth(key, &value)?),
            "readwrite" | "rw" => self.access(!truth(key, &value)?),
            "required" => {
                self.require(key, false)?;
                self.mount.required = truth(key, &value)?;
            }
            "size" if self.mount.kind == MountKind::Tmpfs => {
                let invalid = MountError::Value { key: key.to_owned(), value: value.clone() };
                self.mount.size = parse_size(&value).ok_or(invalid)?;
            }
            "size" => return Err(self.key_of_other_kind(key)),
            "id" => self.mount.id = value,
            "sharing" => {
                let sharing = choice(&SHARINGS, &value).ok_or(MountError::Sharing(value))?;
                self.mount.sharing = Some(sharing);
            }
            "mode" => self.mount.mode = Some(number("mode", value, 8)?),
            "uid" => self.mount.uid = Some(number("uid", value, 10)?),
            "gid" => self.mount.gid = Some(number("gid", value, 10)?),
            "env" => self.mount.env = Some(value),
            _ => {
                let (key, field) = (key.to_owned(), field.to_owned());
                return Err(MountError::UnknownKey { key, field, keys: KEYS.to_vec() });
            }
        }
        Ok(())
    }

    fn access(&mut self, read_only: bool) {
        self.mount.read_only = read_only;
        self.access_given = true;
    }

    fn require(&mut self, key: &str, required: bool) -> Result<(), MountError> {
        if !matches!(self.mount.kind, MountKind::Secret | MountKind::Ssh) {
            return Err(self.key_of_other_kind(key));
        }
        self.mount.required = required;
        Ok(())
    }

    fn key_of_other_kind(&self, key: &str) -> MountError {
        MountError::KeyOfOtherKind { key: key.to_owned(), kind: self.mount.kind }
    }

    fn finish(mut self) -> Result<Mount, MountError> {
        let mount = &mut self.mount;
        if matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs) {
            for (key, value) in [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)] {
                if value.is_some() {
                    return Err(MountError::Owner { key, kind: mount.kind });
                }
            }
        }
        if !self.access_given {
            mount.read_only = !matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        }
        if mount.kind == MountKind::Secret {
            check_secret(mount).map_err(|text| MountError::Combination(text.to_owned()))?;
        }
        if mount.sharing.is_some() && mount.kind != MountKind::Cache {
            let text = format!("invalid cache sharing set for {} mount", mount.kind);
            return Err(MountError::Combination(text));
        }
        Ok(self.mount)
    }
}

fn check_secret(mount: &Mount) -> Result<(), &'static str> {
    if !mount.from.is_empty() {
        return Err("secret mount should not have a from");
    }
    if mount.sharing.is_some() {
        return Err("secret mount should not define sharing");
    }
    if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
        return Err("invalid secret mount. one of source, target required");
    }
    if !mount.source.is_empty() && !mount.id.is_empty() {
        return Err("both source and id can't be set");
    }
    Ok(())
}

fn choice<T: Copy>(choices: &[(&str, T)], value: &str) -> Option<T> {
    let value = value.to_lowercase();
    choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice)
}

fn truth(key: &str, value: &str) -> Result<bool, MountError> {
    let invalid = || MountError::Value { key: key.to_owned(), value: value.to_owned() };
    parse_bool(value).ok_or_else(invalid)
}

fn number(key: &'static str, value: String, radix: u32) -> Result<u32, MountError> {
    // A sign is a number to the standard library.
    if !value.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(MountError::Number { key, value });
    }
    u32::from_str_radix(&value, radix).map_err(|_| MountError::Number { key, value })
}

#[cfg(test)]
mod tests;
