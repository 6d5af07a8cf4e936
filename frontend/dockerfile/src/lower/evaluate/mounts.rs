//! The mounts of a `RUN`.

use llb::{
    CacheMount, CacheSharing, MakeDir, Owner, RunMount, RunSecret, RunSsh, SecretMount, SshMount,
    State,
};

use super::super::plan::{Mounted, Origin};
use super::super::stages::SCRATCH;
use super::super::{LowerError, RunError};
use super::Stage;
use crate::error::Problem;
use crate::instruction::{Instruction, Mount, MountKind, Run, Sharing};
use crate::lint::caches::{CacheOptions, CacheUse};
use crate::path;

/// The directory that carries the ownership and permissions of a cache's root.
const PERMISSIONS_DIRECTORY: &str = "/cache";

/// The mounts of a command, by how the graph has them.
#[derive(Debug, Default)]
pub(super) struct FoundMounts {
    /// File trees.
    pub(super) mounts: Vec<Mounted>,
    /// Secrets.
    pub(super) secrets: Vec<RunSecret>,
    /// Agents.
    pub(super) ssh: Vec<RunSsh>,
    /// The variables that hold secrets.
    pub(super) secret_variables: Vec<String>,
    /// Caches, as rules look at them.
    pub(super) caches: Vec<CacheUse>,
}

impl Stage<'_> {
    pub(super) fn mounts(
        &mut self,
        position: usize,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<FoundMounts, Problem> {
        let mut found = FoundMounts::default();
        for (which, flag) in run.mounts.iter().enumerate() {
            let mount = flag.read(&mut |word| self.expand(instruction, word))?;
            // The empty image that nobody names is meant by caches alone.
            let source = match (mount.from.as_str(), mount.kind) {
                ("", MountKind::Cache) => self.source(position, which).ok_or(SCRATCH),
                ("", _) => Ok(None),
                (from, _) => self.source(position, which).ok_or(from),
            };
            let source = source.map_err(|from| {
                let (from, target) = (from.to_owned(), mount.target.clone());
                LowerError::from(RunError::FromLater { from, target })
            })?;
            match mount.kind {
                MountKind::Secret => self.secret(instruction, &mount, &mut found),
                MountKind::Ssh => self.ssh(instruction, &mount, &mut found)?,
                MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => {
                    let tree = self.tree(&mount, source).map_err(LowerError::from)?;
                    if mount.kind == MountKind::Cache {
                        found.caches.push(cache_use(&flag.text, &mount, &tree));
                    }
                    found.mounts.push(tree);
                }
            }
        }
        Ok(found)
    }

    fn tree(&mut self, mount: &Mount, stage: Option<usize>) -> Result<Mounted, RunError> {
        let dest = match path::clean(&mount.target) {
            clean if clean.starts_with('/') => mount.target.clone(),
            _ => path::join(&self.inherited.cwd, &mount.target),
        };
        if dest == "/" {
            return Err(RunError::Target(dest));
        }
        let source = path::join("/", &mount.source);
        let origin = self.mount_origin(mount.kind, stage, &source);
        let mut tree = match mount.kind {
            MountKind::Tmpfs => {
                RunMount::tmpfs(dest, u64::try_from(mount.size).unwrap_or_default())
            }
            MountKind::Cache => RunMount::cache(dest, State::scratch(), self.cache_mount(mount)),
            MountKind::Bind | MountKind::Secret | MountKind::Ssh => {
                // What a command writes to the trees of others is thrown away.
                let no_output = !mount.read_only;
                RunMount { no_output, ..RunMount::bind(dest, State::scratch()) }
            }
        };
        tree.readonly = mount.read_only;
        let mut permissions = None;
        if source != "/" {
            tree.selector = source;
        } else if mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some() {
            PERMISSIONS_DIRECTORY.clone_into(&mut tree.selector);
            permissions = Some(MakeDir {
                path: PERMISSIONS_DIRECTORY.to_owned(),
                mode: mount.mode.unwrap_or(0o755),
                owner: Some(Owner::ids(mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))),
                ..MakeDir::default()
            });
        }
        Ok(Mounted { mount: tree, origin, permissions })
    }

    fn cache_mount(&self, mount: &Mount) -> CacheMount {
        let id = if mount.id.is_empty() { path::clean(&mount.target) } else { mount.id.clone() };
        CacheMount {
            id: format!("{}/{id}", self.shared.options.cache_namespace),
            sharing: match mount.sharing {
                None | Some(Sharing::Shared) => CacheSharing::Shared,
                Some(Sharing::Private) => CacheSharing::Private,
                Some(Sharing::Locked) => CacheSharing::Locked,
            },
        }
    }

    fn mount_origin(&mut self, kind: MountKind, stage: Option<usize>, source: &str) -> Origin {
        match (kind, stage) {
            (MountKind::Tmpfs, _) | (MountKind::Cache, None) => Origin::Scratch,
            (_, Some(stage)) => {
                self.use_path(Some(stage), source.to_owned());
                Origin::Stage(stage)
            }
            (_, None) => {
                self.use_path(None, source.to_owned());
                Origin::Context
            }
        }
    }

    fn secret(&mut self, instruction: &Instruction, mount: &Mount, found: &mut FoundMounts) {
        let id = match (mount.source.as_str(), mount.id.as_str()) {
            ("", "") => path::base(&mount.target).to_owned(),
            ("", id) => id.to_owned(),
            (source, _) => source.to_owned(),
        };
        let dest = match (mount.target.as_str(), &mount.env) {
            ("", Some(_)) => None,
            ("", None) => Some(format!("/run/secrets/{}", path::base(&id))),
            (target, _) => Some(target.to_owned()),
        };
        let needed = (mount.required, instruction.lines);
        self.outline.secrets.entry(id.clone()).or_insert(needed);
        found.secret_variables.extend(mount.env.clone());
        found.secrets.push(RunSecret {
            secret: SecretMount {
                id,
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
                mode: mount.mode.unwrap_or(0o400),
                optional: !mount.required,
            },
            dest,
            env: mount.env.clone(),
        });
    }

    fn ssh(
        &mut self,
        instruction: &Instruction,
        mount: &Mount,
        found: &mut FoundMounts,
    ) -> Result<(), LowerError> {
        if !mount.source.is_empty() {
            return Err(RunError::SshSource.into());
        }
        let id = if mount.id.is_empty() { "default" } else { &mount.id };
        let needed = (mount.required, instruction.lines);
        self.outline.ssh.entry(id.to_owned()).or_insert(needed);
        found.ssh.push(RunSsh {
            agent: SshMount {
                id: mount.id.clone(),
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
                mode: mount.mode.unwrap_or(0o600),
                optional: !mount.required,
            },
            dest: (!mount.target.is_empty()).then(|| mount.target.clone()),
        });
        Ok(())
    }
}

fn cache_use(text: &str, mount: &Mount, tree: &Mounted) -> CacheUse {
    let target = path::clean(&tree.mount.dest);
    CacheUse {
        text: text.to_owned(),
        id: if mount.id.is_empty() { target.clone() } else { mount.id.clone() },
        target,
        read_only: mount.read_only,
        options: CacheOptions {
            sharing: mount.sharing,
            owner: (mount.uid, mount.gid, mount.mode),
            seed: (mount.from.clone(), mount.source.clone()),
        },
    }
}
