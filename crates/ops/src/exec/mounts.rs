//! What a process sees: the mounts of an operation made real (protocol page `llb.md` §5).
//!
//! Everything that is opened here is a guard: if preparing fails half way, or the step is cancelled,
//! what was prepared is let go: new layers are discarded, leases end as the volume's policy says, the
//! agent's socket disappears.

use cache::{ImmutableRef, LayerInfo, MutableRef, TreeView};
use executor::{GuestMount, SecretBytes};
use llb::{ExecOp, Mount, MountKind, SecretMount, SshMount};
use mount::{GuestPath, Mount as HostMount, MountSource};
use session::{SshForward, SshSocket};
use solver::{OpContext, OpError};
use volumes::Leases;

use super::leases;
use crate::clients::Clients;
use crate::{OperationError, Services, failure};

/// Permission bits of the root of a tmpfs.
const TMPFS_MODE: u32 = 0o1777;

/// The mounts of a process and what has to be held while it runs.
pub(super) struct Prepared {
    /// The root, writable.
    pub(super) root: HostMount,
    pub(super) root_readonly: bool,
    /// All else, parents before children.
    pub(super) mounts: Vec<(GuestPath, GuestMount)>,
    /// The leases of volumes, if there are any.
    pub(super) leases: Option<Leases>,
    results: Vec<(u32, Pending)>,
    /// New layers that are nobody's result.
    _scratch: Vec<MutableRef>,
    _views: Vec<TreeView>,
    _agents: Vec<SshForward>,
}

/// What becomes an output once the process has succeeded.
enum Pending {
    Written(MutableRef),
    Unchanged(ImmutableRef),
}

/// Prepares the mounts of one operation.
pub(super) struct Preparer<'a> {
    pub(super) services: &'a Services,
    pub(super) context: &'a OpContext,
    pub(super) op: &'a ExecOp,
    pub(super) inputs: &'a [ImmutableRef],
    pub(super) cwd: &'a GuestPath,
}

impl Preparer<'_> {
    /// Opens everything. Leases of volumes come last: they may have to be waited for, and nobody shall
    /// wait for a step that cannot run.
    pub(super) async fn prepare(&self) -> Result<Prepared, OpError> {
        let mut prepared = Prepared {
            root: HostMount {
                source: MountSource::Tmpfs { size: None, mode: 0o755 },
                readonly: true,
            },
            root_readonly: false,
            mounts: Vec::new(),
            leases: None,
            results: Vec::new(),
            _scratch: Vec::new(),
            _views: Vec::new(),
            _agents: Vec::new(),
        };
        let mut caches = Vec::new();
        for mount in &self.op.mounts {
            if mount.is_root() {
                self.root(mount, &mut prepared).await?;
                continue;
            }
            let target = self.cwd.join(&mount.dest).map_err(failure)?;
            let guest = match &mount.kind {
                MountKind::Bind => Some(self.bind(mount, &mut prepared).await?),
                MountKind::Tmpfs { size } => {
                    let size = (*size > 0).then_some(*size);
                    Some(GuestMount::Tmpfs { size, mode: TMPFS_MODE })
                }
                MountKind::Secret(secret) => self.secret(secret).await?,
                MountKind::Ssh(ssh) => self.ssh(ssh, &mut prepared).await?,
                MountKind::Cache(cache) => {
                    caches.push((target.clone(), mount, cache));
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
        let info = LayerInfo::regular(self.context.vertex().name.clone());
        let base = self.input(mount);
        self.services.refs.new_layer(&base, info).await.map_err(failure)
    }

    /// The root is always a layer of its own: mount points are made in it.
    async fn root(&self, mount: &Mount, prepared: &mut Prepared) -> Result<(), OpError> {
        let layer = self.new_layer(mount).await?;
        prepared.root = layer.mount().clone();
        prepared.root_readonly = mount.readonly;
        match mount.output {
            Some(output) if mount.readonly => {
                prepared.results.push((output, Pending::Unchanged(self.input(mount))));
                prepared._scratch.push(layer);
            }
            Some(output) => prepared.results.push((output, Pending::Written(layer))),
            None => prepared._scratch.push(layer),
        }
        Ok(())
    }

    async fn bind(&self, mount: &Mount, prepared: &mut Prepared) -> Result<GuestMount, OpError> {
        let selector = GuestPath::new(&mount.selector).map_err(failure)?;
        if mount.readonly {
            let view = self.services.refs.view(&self.input(mount)).await.map_err(failure)?;
            if let Some(output) = mount.output {
                prepared.results.push((output, Pending::Unchanged(self.input(mount))));
            }
            let mount = view.mount().clone();
            prepared._views.push(view);
            return Ok(GuestMount::Mount { mount, selector });
        }
        let layer = self.new_layer(mount).await?;
        let host = layer.mount().clone();
        match mount.output {
            Some(output) => prepared.results.push((output, Pending::Written(layer))),
            None => prepared._scratch.push(layer),
        }
        Ok(GuestMount::Mount { mount: host, selector })
    }

    async fn secret(&self, secret: &SecretMount) -> Result<Option<GuestMount>, OpError> {
        let clients = Clients::of(&self.services.sessions, self.context);
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
        let clients = Clients::of(&self.services.sessions, self.context);
        let Some(session) = clients.with_agent(&ssh.id, ssh.optional).await? else {
            return Ok(None);
        };
        let path = self.services.new_socket_path();
        let (uid, gid, mode) = (ssh.uid, ssh.gid, ssh.mode);
        let socket = SshSocket { path: path.clone(), uid, gid, mode };
        prepared._agents.push(session.forward_ssh(&ssh.id, socket).map_err(failure)?);
        Ok(Some(GuestMount::Socket { path }))
    }

    async fn caches(
        &self,
        caches: &[(GuestPath, &Mount, &llb::CacheMount)],
        prepared: &mut Prepared,
    ) -> Result<(), OpError> {
        if caches.is_empty() {
            return Ok(());
        }
        let mut requests = Vec::new();
        for (target, mount, cache) in caches {
            let input = self.input(mount);
            if let Some(output) = mount.output {
                prepared.results.push((output, Pending::Unchanged(input.clone())));
            }
            let request = leases::request(self.services, target, mount, cache, &input);
            let (request, view) = request.await?;
            prepared._views.extend(view);
            requests.push(request);
        }
        let leases = leases::acquire(self.services, self.context, requests).await?;
        for (index, (target, ..)) in caches.iter().enumerate() {
            // As many mounts as were asked for.
            let Some(mount) = leases.mount(index) else { continue };
            let guest = GuestMount::Mount { mount, selector: GuestPath::root() };
            prepared.mounts.push((target.clone(), guest));
        }
        prepared.leases = Some(leases);
        Ok(())
    }
}

impl Prepared {
    /// Makes what the process wrote its results, in the order of the outputs.
    pub(super) async fn commit(self) -> Result<Vec<ImmutableRef>, OpError> {
        let mut results = Vec::new();
        for (output, pending) in self.results {
            let result = match pending {
                Pending::Unchanged(result) => result,
                Pending::Written(layer) => layer.commit().await.map_err(failure)?,
            };
            results.push((output, result));
        }
        results.sort_by_key(|(output, _)| *output);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}
