//! The rules: their names, what they say, where to read more. Clients and files know the names.

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it asks for.
    pub(crate) description: &'static str,
    /// Where to read more; may be empty. The pages of our own rules are in this repository, and named by their path
    /// in it.
    pub(crate) url: &'static str,
    /// Whether it is being tried out: then it has to be asked for.
    pub(crate) experimental: bool,
}

impl Rule {
    const fn new(name: &'static str, url: &'static str, description: &'static str) -> Self {
        Self { name, description, url, experimental: false }
    }
}

/// The rule `StageNameCasing`.
pub(crate) static STAGE_NAME_CASING: Rule = Rule::new(
    "StageNameCasing",
    "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
    "Stage names should be lowercase",
);

/// The rule `FromAsCasing`.
pub(crate) static FROM_AS_CASING: Rule = Rule::new(
    "FromAsCasing",
    "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
    "The 'as' keyword should match the case of the 'from' keyword",
);

/// The rule `NoEmptyContinuation`.
pub(crate) static NO_EMPTY_CONTINUATION: Rule = Rule::new(
    "NoEmptyContinuation",
    "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/",
    "Empty continuation lines will become errors in a future release",
);

/// The rule `ConsistentInstructionCasing`.
pub(crate) static CONSISTENT_INSTRUCTION_CASING: Rule = Rule::new(
    "ConsistentInstructionCasing",
    "https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
);

/// The rule `DuplicateStageName`.
pub(crate) static DUPLICATE_STAGE_NAME: Rule = Rule::new(
    "DuplicateStageName",
    "https://docs.docker.com/go/dockerfile/rule/duplicate-stage-name/",
    "Stage names should be unique",
);

/// The rule `ReservedStageName`.
pub(crate) static RESERVED_STAGE_NAME: Rule = Rule::new(
    "ReservedStageName",
    "https://docs.docker.com/go/dockerfile/rule/reserved-stage-name/",
    "Reserved words should not be used as stage names",
);

/// The rule `JSONArgsRecommended`.
pub(crate) static JSON_ARGS_RECOMMENDED: Rule = Rule::new(
    "JSONArgsRecommended",
    "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
);

/// The rule `MaintainerDeprecated`.
pub(crate) static MAINTAINER_DEPRECATED: Rule = Rule::new(
    "MaintainerDeprecated",
    "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
);

/// The rule `UndefinedArgInFrom`.
pub(crate) static UNDEFINED_ARG_IN_FROM: Rule = Rule::new(
    "UndefinedArgInFrom",
    "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/",
    "FROM command must use declared ARGs",
);

/// The rule `WorkdirRelativePath`.
pub(crate) static WORKDIR_RELATIVE_PATH: Rule = Rule::new(
    "WorkdirRelativePath",
    "https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
);

/// The rule `UndefinedVar`.
pub(crate) static UNDEFINED_VAR: Rule = Rule::new(
    "UndefinedVar",
    "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
    "Variables should be defined before their use",
);

/// The rule `MultipleInstructionsDisallowed`.
pub(crate) static MULTIPLE_INSTRUCTIONS_DISALLOWED: Rule = Rule::new(
    "MultipleInstructionsDisallowed",
    "https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/",
    "Multiple instructions of the same type should not be used in the same stage",
);

/// The rule `LegacyKeyValueFormat`.
pub(crate) static LEGACY_KEY_VALUE_FORMAT: Rule = Rule::new(
    "LegacyKeyValueFormat",
    "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/",
    "Legacy key/value format with whitespace separator should not be used",
);

/// The rule `InvalidBaseImagePlatform`.
pub(crate) static INVALID_BASE_IMAGE_PLATFORM: Rule = Rule::new(
    "InvalidBaseImagePlatform",
    "",
    "Base image platform does not match expected target platform",
);

/// The rule `RedundantTargetPlatform`.
pub(crate) static REDUNDANT_TARGET_PLATFORM: Rule = Rule::new(
    "RedundantTargetPlatform",
    "https://docs.docker.com/go/dockerfile/rule/redundant-target-platform/",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
);

/// The rule `SecretsUsedInArgOrEnv`.
pub(crate) static SECRETS_USED_IN_ARG_OR_ENV: Rule = Rule::new(
    "SecretsUsedInArgOrEnv",
    "https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/",
    "Sensitive data should not be used in the ARG or ENV commands",
);

/// The rule `InvalidDefaultArgInFrom`.
pub(crate) static INVALID_DEFAULT_ARG_IN_FROM: Rule = Rule::new(
    "InvalidDefaultArgInFrom",
    "https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/",
    "Default value for global ARG results in an empty or invalid base image name",
);

/// The rule `FromPlatformFlagConstDisallowed`.
pub(crate) static FROM_PLATFORM_FLAG_CONST_DISALLOWED: Rule = Rule::new(
    "FromPlatformFlagConstDisallowed",
    "https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/",
    "FROM --platform flag should not use a constant value",
);

/// The rule `CopyIgnoredFile`.
pub(crate) static COPY_IGNORED_FILE: Rule = Rule::new(
    "CopyIgnoredFile",
    "https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/",
    "Attempting to Copy file that is excluded by .dockerignore",
);

/// The rule `InvalidDefinitionDescription`.
pub(crate) static INVALID_DEFINITION_DESCRIPTION: Rule = Rule {
    experimental: true,
    ..Rule::new(
        "InvalidDefinitionDescription",
        "https://docs.docker.com/go/dockerfile/rule/invalid-definition-description/",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    )
};

/// The rule `ExposeProtoCasing`.
pub(crate) static EXPOSE_PROTO_CASING: Rule = Rule::new(
    "ExposeProtoCasing",
    "https://docs.docker.com/go/dockerfile/rule/expose-proto-casing/",
    "Protocol in EXPOSE instruction should be lowercase",
);

/// The rule `ExposeInvalidFormat`.
pub(crate) static EXPOSE_INVALID_FORMAT: Rule = Rule::new(
    "ExposeInvalidFormat",
    "https://docs.docker.com/go/dockerfile/rule/expose-invalid-format/",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
);

/// The rule `CacheSharingUnsafe`.
pub(crate) static CACHE_SHARING_UNSAFE: Rule = Rule::new(
    "CacheSharingUnsafe",
    "docs/rules/cache-sharing-unsafe.md",
    "A tool that does not lock its cache should not share it with concurrent builds",
);

/// The rule `CacheCleanedByApt`.
pub(crate) static CACHE_CLEANED_BY_APT: Rule = Rule::new(
    "CacheCleanedByApt",
    "docs/rules/cache-cleaned-by-apt.md",
    "Base images of Debian and Ubuntu make apt empty its cache after each run",
);

/// The rule `CacheDefeated`.
pub(crate) static CACHE_DEFEATED: Rule = Rule::new(
    "CacheDefeated",
    "docs/rules/cache-defeated.md",
    "A command should not empty or bypass the cache that is mounted for it",
);

/// The rule `CacheTargetUnused`.
pub(crate) static CACHE_TARGET_UNUSED: Rule = Rule::new(
    "CacheTargetUnused",
    "docs/rules/cache-target-unused.md",
    "A cache should be mounted where the tool writes to",
);

/// The rule `CacheOptionsDiffer`.
pub(crate) static CACHE_OPTIONS_DIFFER: Rule = Rule::new(
    "CacheOptionsDiffer",
    "docs/rules/cache-options-differ.md",
    "One cache should be mounted with the same options everywhere",
);

/// The rule `CacheNotMounted`.
pub(crate) static CACHE_NOT_MOUNTED: Rule = Rule::new(
    "CacheNotMounted",
    "docs/rules/cache-not-mounted.md",
    "What one command puts into a cache is not there for a command that does not mount it",
);

/// The rule `CachePlatformMixed`.
pub(crate) static CACHE_PLATFORM_MIXED: Rule = Rule::new(
    "CachePlatformMixed",
    "docs/rules/cache-platform-mixed.md",
    "In a build for several platforms the id of a cache should have the platform in it",
);
