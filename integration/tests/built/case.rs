//! Cases as they stand in a topic's file.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A Dockerfile, what is beside it, and how it is built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    /// What it shows.
    pub(crate) title: String,
    /// Options of the client.
    pub(crate) options: Vec<String>,
    /// Attributes of the output, each with a comma before it.
    pub(crate) output: String,
    /// Whether times are shown: they are the same in each run.
    pub(crate) times: bool,
    /// The Dockerfile.
    pub(crate) dockerfile: String,
    /// What is beside it, by path.
    pub(crate) places: Vec<(String, Place)>,
}

/// Something in a project's directory.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A file.
    File { mode: u32, contents: Vec<u8> },
    /// A directory.
    Directory { mode: u32 },
    /// A symbolic link.
    Link { target: String },
}

impl Case {
    /// Returns the cases of a topic, each with the files of all of them.
    pub(crate) fn read_all(topic: &str) -> Vec<Self> {
        let (common, cases) = match topic.split_once("=== ") {
            Some((common, cases)) => (places(common).1, cases),
            None => (Vec::new(), ""),
        };
        let one = |text: &str| {
            let (head, body) = text.split_once('\n').unwrap_or((text, ""));
            let mut case = Self::named(head);
            let (dockerfile, own) = places(body);
            case.dockerfile = dockerfile;
            case.places = common.iter().cloned().chain(own).collect();
            case
        };
        cases.split("\n=== ").map(one).collect()
    }

    fn named(head: &str) -> Self {
        let mut words = head.split(" | ");
        let mut case =
            Self { title: words.next().unwrap_or_default().to_owned(), ..Self::default() };
        for word in words {
            match word.strip_prefix("output:") {
                Some(attribute) => case.output.push_str(&format!(",{attribute}")),
                None if word == "times" => case.times = true,
                None => case.options.extend(word.split(' ').map(str::to_owned)),
            }
        }
        case
    }
}

/// Splits off the files from what stands before the first of them.
fn places(text: &str) -> (String, Vec<(String, Place)>) {
    let text = format!("\n{}\n", text.trim_end_matches('\n'));
    let mut parts = text.split("\n--- ");
    let first = parts.next().unwrap_or_default().trim_start_matches('\n');
    let place = |part: &str| {
        let (head, contents) = part.split_once('\n').unwrap_or((part, ""));
        if let Some((path, target)) = head.split_once(" -> ") {
            return (path.to_owned(), Place::Link { target: target.to_owned() });
        }
        let (path, mode) = head.rsplit_once(' ').unwrap_or((head, ""));
        let lines = contents.trim_end_matches('\n');
        if mode == "base64" {
            let contents = BASE64_STANDARD.decode(lines).unwrap();
            return (path.to_owned(), Place::File { mode: 0o644, contents });
        }
        let number = u32::from_str_radix(mode, 8).ok();
        // A word that is no mode is a part of the name.
        let (path, mode) = if number.is_some() { (path, number) } else { (head, None) };
        match path.strip_suffix('/') {
            Some(path) => (path.to_owned(), Place::Directory { mode: mode.unwrap_or(0o755) }),
            None => {
                let contents = format!("{lines}\n").into_bytes();
                (path.to_owned(), Place::File { mode: mode.unwrap_or(0o644), contents })
            }
        }
    };
    (format!("{}\n", first.trim_end_matches('\n')), parts.map(place).collect())
}
