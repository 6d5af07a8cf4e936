//! Build arguments that hold for the whole file: the automatic ones, and those before the first stage.

use std::collections::{BTreeMap, BTreeSet};

use oci::Platform;

use crate::error::Problem;
use crate::expand::{Environment, Lexer};
use crate::instruction::Argument;
use crate::syntax::Lines;

/// An argument's definition, for outlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// What the file says.
    pub(crate) argument: Argument,
    /// The value it has in this build.
    pub(crate) value: String,
    /// The arguments its default is made from.
    pub(crate) needs: BTreeSet<String>,
    /// Where it stands.
    pub(crate) lines: Lines,
}

/// The arguments of the whole file.
#[derive(Debug, Clone, Default)]
pub(crate) struct GlobalArguments {
    /// Their values.
    pub(crate) values: Environment,
    /// Those that the file defines.
    pub(crate) defined: BTreeMap<String, Definition>,
}

/// Returns the automatic arguments. A build argument of the same name replaces one.
pub(crate) fn automatic(
    build: &Platform,
    target: &Platform,
    stage: &str,
    build_args: &BTreeMap<String, String>,
) -> Environment {
    let stage = if stage.is_empty() { "default" } else { stage };
    let (build_text, target_text) = (build.short(), target.to_string());
    let values = [
        ("BUILDPLATFORM", build_text.as_str()),
        ("BUILDOS", &build.os),
        ("BUILDOSVERSION", &build.os_version),
        ("BUILDARCH", &build.architecture),
        ("BUILDVARIANT", &build.variant),
        ("TARGETPLATFORM", &target_text),
        ("TARGETOS", &target.os),
        ("TARGETOSVERSION", &target.os_version),
        ("TARGETARCH", &target.architecture),
        ("TARGETVARIANT", &target.variant),
        ("TARGETSTAGE", stage),
    ];
    let mut environment = Environment::new();
    for (name, value) in values {
        environment.set(name, build_args.get(name).map_or(value, String::as_str));
    }
    environment
}

/// Adds the arguments that stand before the first stage.
pub(crate) fn global(
    mut values: Environment,
    instructions: &[(Vec<Argument>, Lines)],
    build_args: &BTreeMap<String, String>,
    lexer: &Lexer,
) -> Result<GlobalArguments, Problem> {
    let mut defined: BTreeMap<String, Definition> = BTreeMap::new();
    for (arguments, lines) in instructions {
        for argument in arguments {
            let mut needs = BTreeSet::new();
            let value = match (build_args.get(&argument.name), &argument.default) {
                (Some(value), _) => Some(value.clone()),
                (None, None) => None,
                (None, Some(default)) => {
                    let expansion = lexer
                        .expand(default, &values)
                        .map_err(|error| Problem::from(error).at(*lines))?;
                    needs = expansion.matched;
                    Some(expansion.text)
                }
            };
            // `ARG A=x$A` needs what the older A needed.
            if needs.remove(&argument.name)
                && let Some(older) = defined.get(&argument.name)
            {
                needs.extend(older.needs.iter().cloned());
            }
            if let Some(value) = &value {
                values.set(&argument.name, value);
            }
            let definition = Definition {
                argument: argument.clone(),
                value: value.unwrap_or_default(),
                needs,
                lines: *lines,
            };
            defined.insert(argument.name.clone(), definition);
        }
    }
    Ok(GlobalArguments { values, defined })
}
