//! Platforms: an operating system on an architecture, in one spelling.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json::nullable;

const KNOWN_SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const KNOWN_ARCHITECTURES: [&str; 25] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "wasm32",
];

/// What an image runs on.
///
/// Displays as `os/architecture[/variant]`, with a version and features of the operating system in
/// parentheses after it if it has any: `windows(10.0.17763+win32k)/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// The processor architecture, as Go names it.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// The operating system, as Go names it.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// The version of the operating system (Windows); empty for any.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features that the operating system must have.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the architecture (`v7`); empty for the usual one.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is not a platform. The texts are the ones that Docker's users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The operating system has characters that none has.
    #[error(
        "{part:?} is an invalid OS component of {whole:?}: OSAndVersion specifier component must match {:?}: invalid argument",
        r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$"
    )]
    System {
        /// The operating system.
        part: String,
        /// All of the text.
        whole: String,
    },
    /// Another part has characters that none has.
    #[error(
        "{part:?} is an invalid component of {whole:?}: platform specifier component must match {:?}: invalid argument",
        "^[A-Za-z0-9_.-]+$"
    )]
    Component {
        /// The part.
        part: String,
        /// All of the text.
        whole: String,
    },
    /// It is meant to stand for several.
    #[error("{0:?}: wildcards not yet supported: invalid argument")]
    Wildcard(String),
    /// There are too many parts, or too few.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Malformed(String),
    /// A single word that names neither an operating system nor an architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

impl Platform {
    /// Returns a platform without a variant, normalised.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self { os: os.to_owned(), architecture: architecture.to_owned(), ..Self::default() }
            .normalized()
    }

    /// Parses `os/architecture[/variant]`, normalised.
    ///
    /// # Errors
    /// Returns an error if the text is not of this form.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        if text.contains('*') {
            return Err(PlatformError::Wildcard(shown(text)));
        }
        let mut parts = text.splitn(4, '/');
        let (system, words) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
        let (os, os_version, os_features) = system_of(system, text)?;
        if let Some(wrong) = words.iter().find(|word| !is_word(word)) {
            let (part, whole) = (shown(wrong), shown(text));
            return Err(PlatformError::Component { part, whole });
        }
        let (architecture, variant) = match words[..] {
            [architecture] => (architecture.to_owned(), String::new()),
            [architecture, variant] => (architecture.to_owned(), variant.to_owned()),
            _ => return Err(PlatformError::Malformed(shown(text))),
        };
        Ok(Self { architecture, os, os_version, os_features, variant }.normalized())
    }

    /// Parses a platform of which a single word may stand for the whole: an operating system, or an
    /// architecture, with the rest as `default` has it.
    ///
    /// # Errors
    /// Returns an error if the text is not of this form.
    pub fn parse_with_default(text: &str, default: &Self) -> Result<Self, PlatformError> {
        if text.contains('/') {
            return Self::parse(text);
        }
        if text.contains('*') {
            return Err(PlatformError::Wildcard(shown(text)));
        }
        let (os, os_version, os_features) = system_of(text, text)?;
        let system = Self { os, os_version, os_features, ..default.clone() }.normalized();
        if KNOWN_SYSTEMS.contains(&system.os.as_str()) {
            return Ok(system);
        }
        let processor = Self::new(&default.os, text);
        if KNOWN_ARCHITECTURES.contains(&processor.architecture.as_str()) {
            return Ok(processor);
        }
        Err(PlatformError::Unknown(shown(text)))
    }

    /// Returns the platform in the one spelling that everyone compares: lower case, `x86_64` as
    /// `amd64`, `arm` with its variant, `arm64` without the usual one, features sorted.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = match self.os.to_lowercase() {
            os if os == "macos" => "darwin".to_owned(),
            os => os,
        };
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        (self.architecture, self.variant) = (architecture.to_owned(), variant.to_owned());
        self.os_features.sort();
        self.os_features.dedup();
        self
    }

    /// Returns `os/architecture[/variant]`, without a version of the operating system.
    pub fn short(&self) -> String {
        if self.os.is_empty() {
            return "unknown".to_owned();
        }
        let parts = [&self.os, &self.architecture, &self.variant].map(String::as_str);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() || (self.os_version.is_empty() && self.os_features.is_empty()) {
            return f.write_str(&self.short());
        }
        write!(f, "{}({}", self.os, escape_option(&self.os_version))?;
        self.os_features.iter().try_for_each(|feature| write!(f, "+{}", escape_option(feature)))?;
        f.write_str(")")?;
        let parts = [&self.architecture, &self.variant];
        parts.into_iter().filter(|part| !part.is_empty()).try_for_each(|part| write!(f, "/{part}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Self::parse(text)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !text.is_empty() && text.bytes().all(allowed)
}

fn system_of(part: &str, whole: &str) -> Result<(String, String, Vec<String>), PlatformError> {
    let wrong = || PlatformError::System { part: shown(part), whole: shown(whole) };
    parse_system(part).ok_or_else(wrong)
}

/// Splits `os(version+feature+feature)` into its parts.
fn parse_system(text: &str) -> Option<(String, String, Vec<String>)> {
    let (os, options) = match text.split_once('(') {
        None => (text, ""),
        Some((os, options)) => (os, options.strip_suffix(')')?),
    };
    if !is_word(os) || os.contains('.') {
        return None;
    }
    let mut options = options.split('+');
    let version = unescape_option(options.next().unwrap_or_default())?;
    let features = options.map(unescape_option).collect::<Option<Vec<_>>>()?;
    if features.iter().any(String::is_empty) {
        return None;
    }
    Some((os.to_owned(), version, features))
}

/// Writes the characters that would end an option as `%2B` and so on.
fn escape_option(option: &str) -> String {
    let mut escaped = String::with_capacity(option.len());
    for byte in option.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn unescape_option(option: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(option.len());
    let mut rest = option.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok()?;
                // `from_str_radix` takes a sign, which is no hexadecimal digit.
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            b'_' | b'.' | b'-' => bytes.push(byte),
            _ if byte.is_ascii_alphanumeric() => bytes.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}
