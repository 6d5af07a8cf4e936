//! What is known about the tools whose caches people mount.

/// A tool with a cache.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: &'static str,
    /// Where its cache is; a path that begins with `~` is below any home directory.
    directories: &'static [&'static str],
    /// What it is called with when it uses the cache.
    commands: &'static [&'static str],
    /// Whether concurrent runs can share the cache.
    pub(super) locks: bool,
    /// Whether what it keeps is the same for every platform.
    pub(super) is_neutral: bool,
    /// What empties or bypasses the cache.
    pub(super) defeats: &'static [&'static str],
}

const TOOLS: [Tool; 22] = [
    Tool {
        name: "apt",
        directories: &["/var/cache/apt", "/var/lib/apt"],
        commands: &[
            "apt-get install",
            "apt install",
            "apt-get update",
            "apt update",
            "apt-get -y install",
            "apt-get upgrade",
        ],
        locks: false,
        is_neutral: false,
        defeats: &["apt-get clean", "apt clean"],
    },
    Tool {
        name: "apk",
        directories: &["/var/cache/apk", "/etc/apk/cache"],
        commands: &["apk add", "apk --no-cache add", "apk update", "apk -U add", "apk upgrade"],
        locks: false,
        is_neutral: false,
        defeats: &["--no-cache"],
    },
    Tool {
        name: "dnf",
        directories: &["/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum"],
        commands: &[
            "dnf install",
            "dnf -y install",
            "yum install",
            "yum -y install",
            "microdnf install",
        ],
        locks: false,
        is_neutral: false,
        defeats: &["dnf clean all", "yum clean all", "microdnf clean all"],
    },
    Tool {
        name: "zypper",
        directories: &["/var/cache/zypp"],
        commands: &["zypper install", "zypper -n install", "zypper in "],
        locks: false,
        is_neutral: false,
        defeats: &["zypper clean"],
    },
    Tool {
        name: "pacman",
        directories: &["/var/cache/pacman"],
        commands: &["pacman -S"],
        locks: false,
        is_neutral: false,
        defeats: &["pacman -Scc", "pacman --noconfirm -Scc"],
    },
    Tool {
        name: "pip",
        directories: &["~/.cache/pip"],
        commands: &["pip install", "pip3 install", "pip download", "pip wheel"],
        locks: true,
        is_neutral: false,
        defeats: &["--no-cache-dir", "PIP_NO_CACHE_DIR=1", "pip cache purge"],
    },
    Tool {
        name: "uv",
        directories: &["~/.cache/uv"],
        commands: &["uv sync", "uv pip install", "uv pip sync", "uv add"],
        locks: true,
        is_neutral: false,
        defeats: &["--no-cache", "UV_NO_CACHE=1", "uv cache clean"],
    },
    Tool {
        name: "poetry",
        directories: &["~/.cache/pypoetry"],
        commands: &["poetry install", "poetry update", "poetry add"],
        locks: false,
        is_neutral: false,
        defeats: &["poetry cache clear", "--no-cache"],
    },
    Tool {
        name: "npm",
        directories: &["~/.npm"],
        commands: &["npm ci", "npm install", "npm i "],
        locks: true,
        is_neutral: true,
        defeats: &["npm cache clean"],
    },
    Tool {
        name: "yarn",
        directories: &["/usr/local/share/.cache/yarn", "~/.cache/yarn", "~/.yarn-cache"],
        commands: &["yarn install", "yarn add", "yarn --frozen-lockfile"],
        locks: false,
        is_neutral: true,
        defeats: &["yarn cache clean"],
    },
    Tool {
        name: "pnpm",
        directories: &["~/.local/share/pnpm/store", "/pnpm/store"],
        commands: &["pnpm install", "pnpm i ", "pnpm fetch"],
        locks: true,
        is_neutral: true,
        defeats: &["pnpm store prune"],
    },
    Tool {
        name: "go modules",
        directories: &["/go/pkg/mod", "~/go/pkg/mod"],
        commands: &["go build", "go mod download", "go install", "go test"],
        locks: true,
        is_neutral: true,
        defeats: &["go clean -modcache"],
    },
    Tool {
        name: "go build",
        directories: &["~/.cache/go-build"],
        commands: &["go build", "go install", "go test"],
        locks: true,
        is_neutral: true,
        defeats: &["go clean -cache"],
    },
    Tool {
        name: "cargo",
        directories: &[
            "/usr/local/cargo/registry",
            "/usr/local/cargo/git",
            "~/.cargo/registry",
            "~/.cargo/git",
        ],
        commands: &["cargo build", "cargo install", "cargo test", "cargo fetch"],
        locks: true,
        is_neutral: true,
        defeats: &[],
    },
    Tool {
        name: "gradle",
        directories: &["~/.gradle", "/home/gradle/.gradle"],
        commands: &["gradle ", "./gradlew "],
        locks: false,
        is_neutral: true,
        defeats: &["--refresh-dependencies"],
    },
    Tool {
        name: "maven",
        directories: &["~/.m2"],
        commands: &["mvn ", "./mvnw "],
        locks: false,
        is_neutral: true,
        defeats: &["dependency:purge-local-repository"],
    },
    Tool {
        name: "sbt",
        directories: &["~/.ivy2", "~/.sbt"],
        commands: &["sbt "],
        locks: false,
        is_neutral: true,
        defeats: &[],
    },
    Tool {
        name: "composer",
        directories: &["~/.composer/cache", "~/.cache/composer"],
        commands: &["composer install", "composer update", "composer require"],
        locks: false,
        is_neutral: true,
        defeats: &["--no-cache", "composer clear-cache", "composer clearcache"],
    },
    Tool {
        name: "nuget",
        directories: &["~/.nuget/packages"],
        commands: &["dotnet restore", "dotnet build", "dotnet publish", "nuget restore"],
        locks: false,
        is_neutral: true,
        defeats: &["nuget locals all --clear", "--no-cache"],
    },
    Tool {
        name: "bundler",
        directories: &["/usr/local/bundle/cache", "~/.bundle/cache"],
        commands: &["bundle install"],
        locks: false,
        is_neutral: false,
        defeats: &["--no-cache"],
    },
    Tool {
        name: "conda",
        directories: &["/opt/conda/pkgs"],
        commands: &["conda install", "conda env", "mamba install"],
        locks: false,
        is_neutral: false,
        defeats: &["conda clean", "mamba clean"],
    },
    Tool {
        name: "ccache",
        directories: &["~/.ccache", "~/.cache/ccache"],
        commands: &["ccache "],
        locks: true,
        is_neutral: true,
        defeats: &["ccache -C", "CCACHE_DISABLE=1"],
    },
];

/// Returns the tools whose cache is at a path, or above or below it.
pub(super) fn tools_of(target: &str) -> impl Iterator<Item = &'static Tool> {
    // Taken apart once for all tools: most caches are of none of them.
    let parts = parts_of(target);
    TOOLS.iter().filter(move |tool| tool.uses_any(&parts))
}

/// Returns the tools that a command runs.
pub(super) fn tools_in(text: &str) -> impl Iterator<Item = &'static Tool> {
    // Looked for once for all tools: most commands run none of them.
    let starts = Starts::of(text);
    TOOLS.iter().filter(move |tool| tool.is_run_from(&starts))
}

impl Tool {
    /// Returns whether the tool's cache is at a path, or a part of it is.
    pub(super) fn uses(&self, target: &str) -> bool {
        self.uses_any(&parts_of(target))
    }

    /// Returns whether the tool's cache is at the path that these are the parts of.
    fn uses_any(&self, parts: &[&str]) -> bool {
        self.directories.iter().any(|directory| match directory.strip_prefix('~') {
            None => parts.first().is_some_and(|path| is_at_or_below(path, directory)),
            // Any home directory will do: `/root/.npm`, `/home/node/.npm`.
            Some(below) => parts.iter().any(|part| is_at_or_below(part, below)),
        })
    }

    /// Returns whether a command runs the tool.
    pub(super) fn is_run_by(&self, text: &str) -> bool {
        self.is_run_from(&Starts::of(text))
    }

    fn is_run_from(&self, starts: &Starts<'_>) -> bool {
        self.commands.iter().any(|command| starts.have(command))
    }
}

/// What stands from each place on where the name of a command can begin: not within a word.
struct Starts<'a> {
    texts: Vec<&'a str>,
    /// By byte, whether one of them begins with it: nearly always that tells that a command is not among them.
    first: [bool; 256],
}

impl<'a> Starts<'a> {
    fn of(text: &'a str) -> Self {
        let mut starts = Self { texts: Vec::new(), first: [false; 256] };
        let mut within = false;
        for (at, c) in text.char_indices() {
            let is_start = !within;
            within = c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
            // All of them begin with a letter, or with `./`.
            if is_start && within {
                starts.texts.push(&text[at..]);
                starts.first[usize::from(text.as_bytes()[at])] = true;
            }
        }
        starts
    }

    fn have(&self, command: &str) -> bool {
        let first = command.as_bytes().first();
        first.is_some_and(|first| self.first[usize::from(*first)])
            && self.texts.iter().any(|text| text.starts_with(command))
    }
}

/// Returns a path, and what of it begins at each slash after the first character.
fn parts_of(path: &str) -> Vec<&str> {
    let slashes = path.match_indices('/').filter(|(at, _)| *at > 0);
    std::iter::once(path).chain(slashes.map(|(at, _)| &path[at..])).collect()
}

fn is_at_or_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
