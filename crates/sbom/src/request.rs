//! What a build's options say of lists.

use std::collections::BTreeMap;

use bridge::{BuildError, Kind, ResolveMode, split_csv};
use oci::Reference;

/// What makes lists if nobody says what: the one that BuildKit takes.
const DEFAULT_GENERATOR: &str = "docker/buildkit-syft-scanner:stable-1";

/// A list that is wanted of each result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRequest {
    /// The image that makes it.
    pub(crate) generator: Reference,
    /// What it is told besides, by name.
    pub(crate) parameters: BTreeMap<String, String>,
    /// When its registry is asked.
    pub(crate) mode: ResolveMode,
    /// Whether it runs even if it has seen the same result before.
    ignore_cache: bool,
}

/// Who reads what a build asks for: clients know the words of each for what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The daemon, for builds that it is asked for.
    Daemon,
    /// A frontend, for what it is called with.
    Frontend,
}

impl ScanRequest {
    /// Reads what the options of a build ask for; none if no list is wanted.
    ///
    /// # Errors
    /// Returns an error if they are malformed, or the generator's name is no image's.
    pub fn of(
        options: &BTreeMap<String, String>,
        reader: Reader,
    ) -> Result<Option<Self>, BuildError> {
        let asked =
            options.get("attest:sbom").or_else(|| options.get("build-arg:BUILDKIT_ATTEST_SBOM"));
        let Some(asked) = asked else { return Ok(None) };
        let mut generator = DEFAULT_GENERATOR.to_owned();
        let mut parameters = BTreeMap::new();
        let fields = match asked.is_empty() {
            true => Vec::new(),
            false => split_csv(asked)
                .map_err(|reason| invalid(format!("failed to parse sbom: {reason}")))?,
        };
        for field in fields {
            let (key, value) = field.split_once('=').unwrap_or((&field, ""));
            match key {
                "generator" => value.clone_into(&mut generator),
                _ => drop(parameters.insert(key.to_owned(), value.to_owned())),
            }
        }
        let called = match reader {
            Reader::Daemon if generator.is_empty() => {
                return Err(invalid("sbom generator cannot be empty"));
            }
            Reader::Daemon => "generator",
            Reader::Frontend => "scanner",
        };
        let generator = Reference::parse(&generator).map_err(|error| {
            invalid(format!("failed to parse sbom {called} {generator}: {error}"))
        })?;
        let mode = options.get("image-resolve-mode").map_or("", String::as_str);
        let mode = ResolveMode::parse(mode)
            .ok_or_else(|| invalid(format!("invalid image-resolve-mode: {mode}")))?;
        // Names of stages there say nothing of the scanner.
        let ignore_cache = options.get("no-cache").is_some_and(String::is_empty);
        Ok(Some(Self { generator, parameters, mode, ignore_cache }))
    }

    /// Returns whether the build does without results of before.
    pub fn ignores_cache(&self) -> bool {
        self.ignore_cache
    }

    /// Returns the error of a scan that failed, or that left what is no statement: it names who did.
    pub fn blame(&self, error: BuildError) -> BuildError {
        error.context(format!(
            "the SBOM generator `{}` failed (name another with `--attest type=sbom,generator=<image>`, or build without `--sbom`)",
            self.generator
        ))
    }
}

fn invalid(text: impl Into<String>) -> BuildError {
    BuildError::new(Kind::InvalidRequest, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Option<ScanRequest>, String> {
        read_by(Reader::Daemon, options)
    }

    fn read_by(reader: Reader, options: &[(&str, &str)]) -> Result<Option<ScanRequest>, String> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ScanRequest::of(&options.collect(), reader).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_wanted_only_if_it_is_asked_for() {
        assert_eq!(read(&[("attest:provenance", "mode=max")]), Ok(None));
        let usual = read(&[("attest:sbom", "")]).unwrap().unwrap();
        assert_eq!(usual.generator.to_string(), "docker.io/docker/buildkit-syft-scanner:stable-1");
        let by_argument = read(&[("build-arg:BUILDKIT_ATTEST_SBOM", "generator=me/scan")]);
        assert_eq!(by_argument.unwrap().unwrap().generator.familiar(), "me/scan:latest");
    }

    #[test]
    fn what_is_not_the_generator_is_for_the_generator() {
        let asked = r#"type=sbom,generator=localhost:5000/scan:1,"list=a,b",flag"#;
        let mut options = vec![("attest:sbom", asked), ("image-resolve-mode", "pull")];
        let request = read(&options).unwrap().unwrap();
        assert_eq!(request.mode, ResolveMode::Pull);
        assert!(!request.ignores_cache());
        let expected = [("flag", ""), ("list", "a,b"), ("type", "sbom")];
        let told = request.parameters.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        assert_eq!(told.collect::<Vec<_>>(), expected);
        options.push(("no-cache", ""));
        assert!(read(&options).unwrap().unwrap().ignores_cache());
        options[2] = ("no-cache", "stage");
        assert!(!read(&options).unwrap().unwrap().ignores_cache());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        use Reader::{Daemon, Frontend};
        for (reader, asked, expected) in [
            (Daemon, "generator=", "sbom generator cannot be empty"),
            (Frontend, "generator=", "failed to parse sbom scanner : invalid reference format"),
            (Daemon, "generator=A", "failed to parse sbom generator A: invalid reference format"),
            (Frontend, "generator=A", "failed to parse sbom scanner A: invalid reference format"),
            (Daemon, "a\"b", "failed to parse sbom: parse error on line 1, column 2: bare \""),
        ] {
            let error = read_by(reader, &[("attest:sbom", asked)]).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = read(&[("attest:sbom", ""), ("image-resolve-mode", "often")]).unwrap_err();
        assert_eq!(error, "invalid image-resolve-mode: often");
    }
}
