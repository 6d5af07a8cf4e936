//! What a process sees: mounts made real (protocol page `llb.md` §5).
//!
//! Everything that is opened here is a guard: if preparing fails half way, or the process is no longer
//! wanted, what was prepared is let go: new layers are discarded, leases end as the volume's policy says, the
//! agent's socket disappears.

use cache::{ImmutableRef, LayerInfo, Leftover, MutableRef, Remains, TreeView};
use executor::{GuestMount, SecretBytes};
use llb::{CacheMount, Mount, MountKind, SecretMount, SshMount};
use mount::{GuestPath, Mount as HostMount, MountSource};
use session::{SshForward, SshSocket};
use solver::OpError;
use volumes::Leases;

use super::{Patron, leases};
use crate::{OperationError, Services, failure};

/// Permission bits of the root of a tmpfs.
const TMPFS_MODE: u32 = 0o1777;

/// The mounts of a process and what has to be held while it runs.
pub(crate) struct Prepared {
    /// The root, writable.
    pub(crate) root: HostMount,
    pub(crate) root_readonly: bool,
    /// All else, parents before children.
    pub(crate) mounts: Vec<(GuestPath, GuestMount)>,
    /// The leases of volumes, if there are any.
    pub(crate) leases: Option<Leases>,
    /// For each mount that was asked for the tree that it shows, if it shows one.
    pub(crate) trees: Vec<Option<HostMount>>,
    /// New layers, which become outputs once the process has succeeded, or are nobody's result.
    written: Vec<Written>,
    /// Outputs that are what they were.
    unchanged: Vec<(u32, ImmutableRef)>,
    _views: Vec<TreeView>,
    _agents: Vec<SshForward>,
}

/// A mount of a volume.
struct Cache<'a> {
    /// Its place among all mounts.
    index: usize,
    target: GuestPath,
    mount: &'a Mount,
    cache: &'a CacheMount,
}

/// A new layer that the process writes to.
struct Written {
    /// The place of its mount among all mounts.
    mount: usize,
    output: Option<u32>,
    layer: MutableRef,
}

/// Prepares the mounts of one process.
pub(crate) struct Preparer<'a> {
    pub(crate) services: &'a Services,
    pub(crate) patron: Patron<'a>,
    /// What is mounted; one of them at `/`.
    pub(crate) mounts: &'a [Mount],
    /// What the inputs of the mounts count.
    pub(crate) inputs: &'a [ImmutableRef],
    /// What relative targets are below.
    pub(crate) cwd: &'a GuestPath,
}

impl Preparer<'_> {
    /// Opens everything. Leases of volumes come last: they may have to be waited for, and nobody shall
    /// wait for a process that cannot run.
    pub(crate) async fn prepare(&self) -> Result<Prepared, OpError> {
        let mut prepared = Prepared {
            root: HostMount {
                source: MountSource::Tmpfs { size: None, mode: 0o755 },
                readonly: true,
            },
            root_readonly: false,
            mounts: Vec::new(),
            leases: None,
            trees: vec![None; self.mounts.len()],
            written: Vec::new(),
            unchanged: Vec::new(),
            _views: Vec::new(),
            _agents: Vec::new(),
        };
        let mut caches = Vec::new();
        for (index, mount) in self.mounts.iter().enumerate() {
            if mount.is_root() {
                self.root(index, mount, &mut prepared).await?;
                prepared.trees[index] = Some(prepared.root.clone());
                continue;
            }
            let target = self.cwd.join(&mount.dest).map_err(failure)?;
            let guest = match &mount.kind {
                MountKind::Bind => {
                    let (tree, guest) = self.bind(index, mount, &mut prepared).await?;
                    prepared.trees[index] = Some(tree);
                    Some(guest)
                }
                MountKind::Tmpfs { size } => {
                    let size = (*size > 0).then_some(*size);
                    Some(GuestMount::Tmpfs { size, mode: TMPFS_MODE })
                }
                MountKind::Secret(secret) => self.secret(secret).await?,
                MountKind::Ssh(ssh) => self.ssh(ssh, &mut prepared).await?,
                MountKind::Cache(cache) => {
                    caches.push(Cache { index, target: target.clone(), mount, cache });
                    None
                }
            };
            prepared.mounts.extend(guest.map(|guest| (target, guest)));
        }
        self.caches(&caches, &mut prepared).await?;
        prepared.mounts.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(prepared)
    }

    fn input(&self, mount: &Mount) -> ImmutableRef {
        mount.input.and_then(|index| self.inputs.get(index)).cloned().unwrap_or_default()
    }

    async fn new_layer(&self, mount: &Mount) -> Result<MutableRef, OpError> {
        let info = LayerInfo::regular(self.patron.name());
        let base = self.input(mount);
        self.services.refs.new_layer(&base, info).await.map_err(failure)
    }

    /// The root is always a layer of its own: mount points are made in it.
    async fn root(
        &self,
        index: usize,
        mount: &Mount,
        prepared: &mut Prepared,
    ) -> Result<(), OpError> {
        let layer = self.new_layer(mount).await?;
        prepared.root = layer.mount().clone();
        prepared.root_readonly = mount.readonly;
        let output = mount.output.filter(|_| !mount.readonly);
        if let Some(output) = mount.output.filter(|_| mount.readonly) {
            prepared.unchanged.push((output, self.input(mount)));
        }
        prepared.written.push(Written { mount: index, output, layer });
        Ok(())
    }

    async fn bind(
        &self,
        index: usize,
        mount: &Mount,
        prepared: &mut Prepared,
    ) -> Result<(HostMount, GuestMount), OpError> {
        let selector = GuestPath::new(&mount.selector).map_err(failure)?;
        if mount.readonly {
            let view = self.services.refs.view(&self.input(mount)).await.map_err(failure)?;
            if let Some(output) = mount.output {
                prepared.unchanged.push((output, self.input(mount)));
            }
            let tree = view.mount().clone();
            prepared._views.push(view);
            return Ok((tree.clone(), GuestMount::Mount { mount: tree, selector }));
        }
        let layer = self.new_layer(mount).await?;
        let tree = layer.mount().clone();
        prepared.written.push(Written { mount: index, output: mount.output, layer });
        Ok((tree.clone(), GuestMount::Mount { mount: tree, selector }))
    }

    async fn secret(&self, secret: &SecretMount) -> Result<Option<GuestMount>, OpError> {
        let clients = self.patron.clients(&self.services.sessions);
        let Some(content) = clients.secret(&secret.id).await? else {
            return if secret.optional {
                Ok(None)
            } else {
                Err(failure(OperationError::Secret(secret.id.clone())))
            };
        };
        Ok(Some(GuestMount::File {
            content: SecretBytes::new(content.expose().to_vec()),
            mode: secret.mode,
            uid: secret.uid,
            gid: secret.gid,
        }))
    }

    async fn ssh(
        &self,
        ssh: &SshMount,
        prepared: &mut Prepared,
    ) -> Result<Option<GuestMount>, OpError> {
        let clients = self.patron.clients(&self.services.sessions);
        let Some(session) = clients.with_agent(&ssh.id, ssh.optional).await? else {
            return Ok(None);
        };
        let path = self.services.new_socket_path();
        let (uid, gid, mode) = (ssh.uid, ssh.gid, ssh.mode);
        let socket = SshSocket { path: path.clone(), uid, gid, mode };
        prepared._agents.push(session.forward_ssh(&ssh.id, socket).map_err(failure)?);
        Ok(Some(GuestMount::Socket { path }))
    }

    async fn caches(&self, caches: &[Cache<'_>], prepared: &mut Prepared) -> Result<(), OpError> {
        if caches.is_empty() {
            return Ok(());
        }
        let mut requests = Vec::new();
        for Cache { target, mount, cache, .. } in caches {
            let input = self.input(mount);
            if let Some(output) = mount.output {
                prepared.unchanged.push((output, input.clone()));
            }
            let request = leases::request(self.services, target, mount, cache, &input);
            let (request, view) = request.await?;
            prepared._views.extend(view);
            requests.push(request);
        }
        let leases = leases::acquire(self.services, self.patron, requests).await?;
        for (place, Cache { index, target, .. }) in caches.iter().enumerate() {
            // As many mounts as were asked for.
            let Some(mount) = leases.mount(place) else { continue };
            prepared.trees[*index] = Some(mount.clone());
            let guest = GuestMount::Mount { mount, selector: GuestPath::root() };
            prepared.mounts.push((target.clone(), guest));
        }
        prepared.leases = Some(leases);
        Ok(())
    }
}

impl Prepared {
    /// Makes what the process wrote its results, in the order of the outputs.
    pub(crate) async fn commit(self) -> Result<Vec<ImmutableRef>, OpError> {
        let mut results = self.unchanged;
        for Written { output, layer, .. } in self.written {
            if let Some(output) = output {
                results.push((output, layer.commit().await.map_err(failure)?));
            }
        }
        results.sort_by_key(|(output, _)| *output);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// Returns what is left if the process has failed: for each of `mounts` the tree it started from, and as
    /// it is now.
    pub(crate) fn remains(self, mounts: &[Mount], inputs: &[ImmutableRef]) -> Remains {
        let input = |mount: &Mount| inputs.get(mount.input?).cloned();
        let inputs: Vec<_> = mounts.iter().map(input).collect();
        let unchanged = inputs.iter().map(|input| input.clone().map(Leftover::unchanged));
        let mut outputs: Vec<_> = unchanged.collect();
        for Written { mount, layer, .. } in self.written {
            outputs[mount] = Some(Leftover::written(layer));
        }
        Remains { inputs, outputs, part: None }
    }
}
