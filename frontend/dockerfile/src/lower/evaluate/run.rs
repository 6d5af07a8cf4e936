//! `RUN`.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use llb::{Device, ExecOptions, NetMode, RunMount, SecurityMode};

use super::super::image::{Layer, with_shell};
use super::super::naming::{shown, summary};
use super::super::plan::{Mounted, Origin, Running, Step, Work};
use super::super::{LowerError, RunError};
use super::Stage;
use super::mounts::FoundMounts;
use crate::error::Problem;
use crate::expand::Variables;
use crate::instruction::{Instruction, Network, Run, Security};
use crate::lint::caches::{self, CachedCommand};
use crate::syntax::parse_heredoc;

/// Where the file of a here-document with an interpreter line appears.
const INLINE_DIRECTORY: &str = "/dev/pipes/";

/// What a command line became.
struct Command {
    /// The words, before the shell is put in front.
    words: Vec<String>,
    /// What is added to the name shown.
    suffix: String,
    /// A file that is run.
    script: Option<Mounted>,
}

impl Stage<'_> {
    pub(super) fn command(
        &mut self,
        position: usize,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), Problem> {
        let found = self.mounts(position, instruction, run)?;
        // A command can read any file.
        self.use_path(Some(self.index), "/".to_owned());
        let command = self.command_line(run)?;
        let words = match run.command.shell {
            true => with_shell(&self.image, &command.words),
            false => command.words,
        };
        if words.is_empty() {
            return Err(LowerError::from(RunError::Empty).into());
        }
        self.check_caches(instruction, &found, &words);
        let name = self.run_name(instruction, &command.suffix, &found);
        let history = self.run_history(&words);
        let FoundMounts { mut mounts, secrets, ssh, .. } = found;
        mounts.extend(command.script);
        let shared = &self.shared.options.run;
        if shared.shm_size > 0 {
            let mount = RunMount::tmpfs("/dev/shm", shared.shm_size);
            mounts.push(Mounted { mount, origin: Origin::Scratch, permissions: None });
        }
        let options = ExecOptions { args: words, secrets, ssh, ..self.surroundings(run) };
        let resources = shared.resources.clone();
        let command = instruction.code.clone();
        let work = Work::Run(Box::new(Running { options, mounts, resources, command }));
        let ignore_cache = self.ignore_cache();
        self.steps.push(Step { name, lines: instruction.lines, ignore_cache, work });
        self.record(["RUN ", &history, " # buildkit"].concat(), Layer::Made);
        Ok(())
    }

    /// Resolves here-documents: a single one is the command itself.
    fn command_line(&self, run: &Run) -> Result<Command, Problem> {
        let (line, heredocs) = (&run.command, &run.command.heredocs);
        let plain = |words| Command { words, suffix: String::new(), script: None };
        let Some(first) = heredocs.first() else {
            return Ok(plain(line.words.clone()));
        };
        let [text] = line.words.as_slice() else {
            let shown = crate::quote::plain_list(&line.words);
            return Err(LowerError::from(RunError::Heredoc(shown)).into());
        };
        if parse_heredoc(text).is_none() {
            let mut whole = text.clone();
            for heredoc in heredocs {
                whole.push('\n');
                whole.push_str(&heredoc.content);
                whole.push_str(&heredoc.name);
            }
            return Ok(plain(vec![whole]));
        }
        let content = first.text();
        let suffix = format!(" ({})", summary(&first.content));
        if self.image.os == "windows" || !content.starts_with("#!") {
            return Ok(Command { words: vec![content], suffix, script: None });
        }
        let origin = Origin::Inline {
            name: first.name.clone(),
            mode: 0o755,
            data: Bytes::from(content.into_bytes()),
        };
        let mount = RunMount {
            selector: "/".to_owned(),
            readonly: true,
            ..RunMount::bind(INLINE_DIRECTORY, llb::State::scratch())
        };
        Ok(Command {
            words: vec![format!("{INLINE_DIRECTORY}{}", first.name)],
            suffix,
            script: Some(Mounted { mount, origin, permissions: None }),
        })
    }

    /// Returns what a command gets from the stage, the build and its flags.
    fn surroundings(&self, run: &Run) -> ExecOptions {
        let shared = &self.shared.options.run;
        let device = |device: &crate::instruction::Device| Device {
            name: device.name.clone(),
            optional: !device.required,
        };
        ExecOptions {
            env: self.inherited.env.entries(),
            cwd: self.inherited.cwd.clone(),
            user: self.inherited.user.clone(),
            proxy: shared.proxy.clone(),
            extra_hosts: shared.extra_hosts.clone(),
            hostname: shared.hostname.clone(),
            ulimits: shared.ulimits.clone(),
            cgroup_parent: shared.cgroup_parent.clone(),
            network: match run.network {
                Network::Default => shared.network,
                Network::None => NetMode::None,
                Network::Host => NetMode::Host,
            },
            security: match run.security {
                Security::Sandbox => SecurityMode::Sandbox,
                Security::Insecure => SecurityMode::Insecure,
            },
            devices: run.devices.iter().map(device).collect(),
            ..ExecOptions::default()
        }
    }

    fn check_caches(&mut self, instruction: &Instruction, found: &FoundMounts, words: &[String]) {
        let text = words.join(" ");
        let command = CachedCommand {
            caches: &found.caches,
            text: &text,
            user: &self.inherited.user,
            has_home: self.inherited.env.value("HOME").is_some(),
            multi_platform: self.shared.options.platforms.len() > 1,
            lines: instruction.lines,
        };
        let findings = caches::check(command, &mut self.inherited.caches, self.known_caches);
        for (rule, text) in findings {
            self.warn(rule, instruction, text);
        }
    }

    /// Returns the name shown. The values of secrets are not known here; that there is one is told.
    fn run_name(&mut self, instruction: &Instruction, suffix: &str, found: &FoundMounts) -> String {
        let mut variables = Cow::Borrowed(&self.inherited.env);
        for name in &found.secret_variables {
            variables.to_mut().set(name, "****");
        }
        let lexer = self.shared.lexer.raw_quotes().keep_unset();
        let text = match suffix {
            "" => shown(&instruction.code, &lexer, &*variables),
            suffix => shown(&format!("{}{suffix}", instruction.code), &lexer, &*variables),
        };
        self.name.next(&text, &self.inherited.env, self.onbuild)
    }

    /// Returns the command with the build arguments it saw: `|1 A=b /bin/sh -c make`.
    fn run_history(&self, words: &[String]) -> String {
        let mut arguments: Vec<(&str, &str)> = Vec::new();
        for argument in &self.inherited.arguments {
            let name = argument.name.as_str();
            let default = argument.default.as_deref().unwrap_or_default();
            let value = self.inherited.env.value(name).unwrap_or(default);
            match arguments.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => arguments.push((name, value)),
            }
        }
        let mut history = String::new();
        if !arguments.is_empty() {
            let _ = write!(history, "|{} ", arguments.len());
        }
        for (name, value) in arguments {
            history.extend([name, "=", value, " "]);
        }
        history + &words.join(" ")
    }
}
