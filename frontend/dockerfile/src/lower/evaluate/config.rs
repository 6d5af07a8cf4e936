//! Instructions that change the image's configuration alone.

use oci::Healthcheck;

use super::super::ConfigError;
use super::super::image::{Layer, with_shell};
use super::Stage;
use super::ports::PortSpec;
use crate::error::Problem;
use crate::instruction::{Action, CommandLine, HealthcheckSpec, Instruction, format_duration};
use crate::lint::rules;
use crate::lower::LowerError;
use crate::quote::{plain_list, quoted_list};
use crate::syntax::Lines;

impl Stage<'_> {
    pub(super) fn configure(&mut self, instruction: &Instruction) -> Result<(), Problem> {
        let history = match &instruction.action {
            Action::Cmd(command) => self.cmd(instruction, command),
            Action::Entrypoint(command) => self.entrypoint(instruction, command),
            Action::Expose(words) => self.expose(instruction, words)?,
            Action::Healthcheck(spec) => self.healthcheck(instruction, spec),
            Action::Maintainer(name) => {
                self.image.author.clone_from(name);
                format!("MAINTAINER {name}")
            }
            Action::Onbuild(trigger) => {
                self.image.config.on_build.push(trigger.clone());
                return Ok(());
            }
            Action::Shell(words) => {
                self.image.config.shell.clone_from(words);
                format!("SHELL {}", plain_list(words))
            }
            Action::StopSignal(signal) => self.stop_signal(instruction, signal)?,
            Action::Volume(paths) => self.volume(instruction, paths)?,
            Action::Copy(_)
            | Action::Arg(_)
            | Action::Env(_)
            | Action::Label(_)
            | Action::Run(_)
            | Action::User(_)
            | Action::Workdir(_) => return Ok(()),
        };
        self.record(history, Layer::None);
        Ok(())
    }

    fn cmd(&mut self, instruction: &Instruction, command: &CommandLine) -> String {
        let before = self.cmd_at.replace(instruction.lines);
        self.warn_repeated(instruction, before);
        let words = self.final_words(instruction, command);
        let history = format!("CMD {}", quoted_list(&words));
        self.image.config.cmd = words;
        self.image.config.args_escaped = true;
        history
    }

    fn entrypoint(&mut self, instruction: &Instruction, command: &CommandLine) -> String {
        let before = self.entrypoint_at.replace(instruction.lines);
        self.warn_repeated(instruction, before);
        let words = self.final_words(instruction, command);
        let history = format!("ENTRYPOINT {}", quoted_list(&words));
        self.image.config.entrypoint = words;
        // A command of the base image was meant for its own entry point.
        if self.cmd_at.is_none() {
            self.image.config.cmd.clear();
        }
        history
    }

    fn final_words(&mut self, instruction: &Instruction, command: &CommandLine) -> Vec<String> {
        if !command.shell {
            return command.words.clone();
        }
        if self.image.config.shell.is_empty() {
            let text = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                instruction.keyword
            );
            self.warn(&rules::JSON_ARGS_RECOMMENDED, instruction, text);
        }
        with_shell(&self.image, &command.words)
    }

    /// The place of the earlier one is told: that is the one without effect.
    fn warn_repeated(&mut self, instruction: &Instruction, before: Option<Lines>) {
        if let Some(lines) = before {
            let text = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                instruction.keyword
            );
            let comments = &instruction.comments;
            self.lint.report(&rules::MULTIPLE_INSTRUCTIONS_DISALLOWED, lines, comments, text);
        }
    }

    fn healthcheck(&mut self, instruction: &Instruction, spec: &HealthcheckSpec) -> String {
        let before = self.healthcheck_at.replace(instruction.lines);
        self.warn_repeated(instruction, before);
        self.image.config.healthcheck = Some(Healthcheck {
            test: spec.test.clone(),
            interval: spec.interval,
            timeout: spec.timeout,
            start_period: spec.start_period,
            start_interval: spec.start_interval,
            retries: spec.retries,
            ..Healthcheck::default()
        });
        format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            plain_list(&spec.test),
            format_duration(spec.interval),
            format_duration(spec.timeout),
            format_duration(spec.start_period),
            format_duration(spec.start_interval),
            spec.retries,
        )
    }

    fn expose(&mut self, instruction: &Instruction, words: &[String]) -> Result<String, Problem> {
        let mut expanded = Vec::new();
        for word in words {
            expanded.extend(self.shared.lexer.words(word, &self.inherited.env)?);
        }
        let mut found = Vec::new();
        for port in &expanded {
            let spec = PortSpec::split(port).map_err(LowerError::from)?;
            if spec.is_upper_case() {
                let text =
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                self.warn(&rules::EXPOSE_PROTO_CASING, instruction, text);
            }
            if spec.has_host() {
                let text = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                self.warn(&rules::EXPOSE_INVALID_FORMAT, instruction, text);
            }
            found.extend(spec.ports().map_err(LowerError::from)?);
        }
        self.image.config.exposed_ports.extend(found.iter().cloned());
        Ok(format!("EXPOSE {}", plain_list(&found)))
    }

    fn stop_signal(&mut self, instruction: &Instruction, signal: &str) -> Result<String, Problem> {
        let signal = self.expand(instruction, signal)?;
        if !super::is_signal(&signal) {
            return Err(LowerError::from(ConfigError::Signal(signal)).into());
        }
        self.image.config.stop_signal.clone_from(&signal);
        Ok(format!("STOPSIGNAL {signal}"))
    }

    fn volume(&mut self, instruction: &Instruction, paths: &[String]) -> Result<String, Problem> {
        let paths = self.expand_all(instruction, paths)?;
        if paths.iter().any(String::is_empty) {
            return Err(LowerError::from(ConfigError::BlankVolume).into());
        }
        let history = format!("VOLUME {}", plain_list(&paths));
        self.image.config.volumes.extend(paths);
        Ok(history)
    }
}
