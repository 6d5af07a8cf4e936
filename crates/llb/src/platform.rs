//! The platform that an operation is for.

use std::fmt;

/// The platform that an operation is for, in the terms of the OCI image specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// The processor: `amd64`.
    pub architecture: String,
    /// The operating system: `linux`.
    pub os: String,
    /// The variant of the processor: `v7`; usually empty.
    pub variant: String,
    /// The version of the operating system; usually empty.
    pub os_version: String,
    /// Features of the operating system; usually empty.
    pub os_features: Vec<String>,
}

impl Platform {
    /// Returns a platform of an operating system and a processor, without a variant.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }
    }

    /// Returns the platform in canonical names: `x86_64` is `amd64`, `arm` has a variant, and a
    /// variant that says nothing is dropped.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os.make_ascii_lowercase();
        if self.os == "macos" {
            self.os = "darwin".to_owned();
        }
        self.architecture.make_ascii_lowercase();
        self.variant.make_ascii_lowercase();
        let (architecture, variant) = canonical(&self.architecture, &self.variant);
        (self.architecture, self.variant) = (architecture.to_owned(), variant.to_owned());
        self.os_features.sort();
        self.os_features.dedup();
        self
    }
}

/// Returns the canonical names of a processor and its variant, both given in lower case.
fn canonical<'a>(architecture: &'a str, variant: &'a str) -> (&'a str, &'a str) {
    match (architecture, variant) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "v9" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    }
}

/// A platform as images have it.
impl From<&oci::Platform> for Platform {
    fn from(platform: &oci::Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_canonical() {
        let normal = |architecture: &str, variant: &str| {
            let platform =
                Platform { variant: variant.to_owned(), ..Platform::new("Linux", architecture) };
            platform.normalized().to_string()
        };
        assert_eq!(normal("x86_64", ""), "linux/amd64");
        assert_eq!(normal("amd64", "v1"), "linux/amd64");
        assert_eq!(normal("amd64", "v3"), "linux/amd64/v3");
        assert_eq!(normal("aarch64", "v8"), "linux/arm64");
        assert_eq!(normal("arm", ""), "linux/arm/v7");
        assert_eq!(normal("armel", "x"), "linux/arm/v6");
        assert_eq!(normal("riscv64", ""), "linux/riscv64");
    }
}
