//! Cases as they are written down: many in a file, one file a topic.
//!
//! A case begins with `=== title`, after which options may follow as `| option`. The Dockerfile is next, then
//! files as `--- path` with an octal mode if it is not 644, and links as `--- path -> target`. Lines before the
//! first case are for readers.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::Project;

/// When the files of a case were changed, which is long ago: what a build writes is told from them.
const CHANGED: i64 = 1_700_000_000;

/// A Dockerfile with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The file it is in.
    pub topic: String,
    /// What it shows.
    pub title: String,
    /// Words for the client, or `key=value` for the frontend.
    pub options: Vec<String>,
    /// Its Dockerfile.
    pub dockerfile: String,
    /// What else is in its directory.
    pub files: Vec<CaseFile>,
}

/// What is in the directory of a case beside its Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseFile {
    /// A file.
    File {
        /// Where it is.
        path: String,
        /// Its permissions.
        mode: u32,
        /// What it holds.
        contents: String,
    },
    /// A symbolic link.
    Link {
        /// Where it is.
        path: String,
        /// Where it points.
        target: String,
    },
}

impl Case {
    /// Reads the cases of all topics in a folder, in the order of their names.
    ///
    /// # Errors
    /// Fails if a file cannot be read or understood.
    pub fn read_all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let listed = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
        let mut files: Vec<_> =
            listed.map(|entry| anyhow::Ok(entry?.path())).collect::<Result<_, _>>()?;
        files.retain(|file| file.extension() == Some("txt".as_ref()));
        files.sort();
        let mut cases = Vec::new();
        for file in files {
            let topic = file.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&file)?;
            let read = Self::read(&topic, &text).with_context(|| format!("{}", file.display()))?;
            cases.extend(read);
        }
        Ok(cases)
    }

    /// Reads the cases of one topic.
    ///
    /// # Errors
    /// Fails if one cannot be understood.
    pub fn read(topic: &str, text: &str) -> anyhow::Result<Vec<Self>> {
        let text = format!("\n{text}");
        text.split("\n=== ").skip(1).map(|case| Self::read_one(topic, case)).collect()
    }

    /// Returns the cases of lists of what is in a result, for the frontend alone: what makes them needs a network
    /// of its own, which not every other side has.
    ///
    /// # Errors
    /// Fails if one cannot be understood.
    pub fn scans() -> anyhow::Result<Vec<Self>> {
        Self::read("scans", include_str!("scans.txt"))
    }

    fn read_one(topic: &str, text: &str) -> anyhow::Result<Self> {
        let (title, rest) = text.split_once('\n').unwrap_or((text, ""));
        let mut words = title.split(" | ").map(str::trim);
        let title = words.next().unwrap_or_default().to_owned();
        let options = words.map(ToOwned::to_owned).collect();
        let rest = format!("\n{rest}");
        let mut parts = rest.split("\n--- ");
        let dockerfile = parts.next().unwrap_or_default().trim_start_matches('\n');
        let dockerfile = ended(dockerfile);
        let files = parts.map(|part| read_file(part).with_context(|| title.clone()));
        let files = files.collect::<anyhow::Result<_>>()?;
        Ok(Self { topic: topic.to_owned(), title, options, dockerfile, files })
    }

    /// Returns its name: the topic and the title.
    pub fn name(&self) -> String {
        format!("{}: {}", self.topic, self.title)
    }

    /// Writes it down as a directory.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn project(&self) -> anyhow::Result<Project> {
        let project = Project::empty()?;
        if !self.dockerfile.is_empty() {
            project.write("Dockerfile", &self.dockerfile)?;
        }
        for file in &self.files {
            match file {
                CaseFile::File { path, mode, contents } => {
                    project.write(path, contents)?;
                    project.chmod(path, *mode)?;
                }
                CaseFile::Link { path, target } => project.link(path, target)?,
            }
        }
        make_old(project.root())?;
        Ok(project)
    }
}

/// Sets the time of a file or directory, and of all that is in it.
fn make_old(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            make_old(&entry?.path())?;
        }
    }
    let time = Timespec { tv_sec: CHANGED, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("{}", path.display()))
}

fn read_file(part: &str) -> anyhow::Result<CaseFile> {
    let (head, contents) = part.split_once('\n').unwrap_or((part, ""));
    if let Some((path, target)) = head.split_once(" -> ") {
        return Ok(CaseFile::Link { path: path.to_owned(), target: target.to_owned() });
    }
    let (path, mode) = head.split_once(' ').unwrap_or((head, "644"));
    let mode = u32::from_str_radix(mode, 8).with_context(|| format!("`{mode}` is no mode"))?;
    Ok(CaseFile::File { path: path.to_owned(), mode, contents: ended(contents) })
}

/// Returns a text with a line end at its end, unless it is empty.
fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read() {
        let text = "about\n=== one | --target=a | --no-cache\nFROM a\nRUN b\n--- x/y 750\nin\n\
            --- l -> x/y\n--- empty\n=== two\nFROM c\n";
        let cases = Case::read("t", text).unwrap();
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].name(), "t: one");
        assert_eq!(cases[0].options, ["--target=a", "--no-cache"]);
        assert_eq!(cases[0].dockerfile, "FROM a\nRUN b\n");
        let file = |path: &str, mode, contents: &str| CaseFile::File {
            path: path.to_owned(),
            mode,
            contents: contents.to_owned(),
        };
        let link = CaseFile::Link { path: "l".to_owned(), target: "x/y".to_owned() };
        assert_eq!(cases[0].files, [file("x/y", 0o750, "in\n"), link, file("empty", 0o644, "")]);
        assert_eq!(cases[1].dockerfile, "FROM c\n");
        assert!(Case::read("t", "=== bad\nFROM a\n--- x 9\n").is_err());
    }
}
