//! The capabilities: names of features that a client may ask for, one by one.
//!
//! A client checks each name it uses against the lists that a daemon answers with, and the daemon
//! checks each name in the metadata of a definition (protocol page `control.md` §8).

/// One feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capability {
    /// Its name on the wire.
    pub id: &'static str,
    /// Whether clients should stop using it.
    pub deprecated: bool,
}

const fn current(id: &'static str) -> Capability {
    Capability { id, deprecated: false }
}

const fn deprecated(id: &'static str) -> Capability {
    Capability { id, deprecated: true }
}

/// Returns whether a definition may use the feature named `id`.
pub fn is_known(id: &str) -> bool {
    LLB.binary_search_by(|capability| capability.id.cmp(id)).is_ok()
}

/// What a frontend may ask of the bridge, in order of the names.
///
/// Those of the protocol are left out that nothing comes of: `reference.attestations`, which are taken
/// and not used, and of `source.metaresolver` the parts `.http.checksumrequest` and
/// `.image.attestations`, which are refused.
pub const FRONTEND: [Capability; 24] = [
    current("frontend.caps"),
    current("frontend.inputs"),
    current("gateway.evaluate"),
    current("gateway.exec"),
    current("gateway.exec.extrahosts"),
    current("gateway.exec.filesystem"),
    current("gateway.exec.secretenv"),
    current("gateway.exec.signals"),
    current("gateway.solve.evaluate"),
    current("gateway.solve.metadata"),
    current("gateway.warnings"),
    current("importcaches"),
    current("proto.refarray"),
    current("readdir"),
    current("readfile"),
    current("reference.output"),
    current("resolveimage"),
    current("resolveimage.resolvemode"),
    current("return"),
    current("returnmap"),
    current("solve.base"),
    deprecated("solve.inlinereturn"),
    current("source.metaresolver"),
    current("statfile"),
];

/// What a definition may use, in order of the names.
pub const LLB: [Capability; 88] = [
    current("cache.azblob"),
    current("cache.gha"),
    current("cache.s3"),
    current("constraints"),
    current("diffop"),
    current("exec.cgroup"),
    current("exec.meta.base"),
    current("exec.meta.cdi"),
    current("exec.meta.cgroup.parent"),
    current("exec.meta.linux.resources"),
    current("exec.meta.network"),
    current("exec.meta.network.proxy"),
    current("exec.meta.proxyenv"),
    current("exec.meta.security"),
    current("exec.meta.security.devices.v1"),
    current("exec.meta.setsdefaultpath"),
    current("exec.meta.ulimit"),
    current("exec.mount.bind"),
    current("exec.mount.bind.readwrite-nooutput"),
    current("exec.mount.cache"),
    current("exec.mount.cache.content"),
    current("exec.mount.cache.sharing"),
    current("exec.mount.secret"),
    current("exec.mount.selector"),
    current("exec.mount.ssh"),
    current("exec.mount.tmpfs"),
    current("exec.mount.tmpfs.size"),
    current("exec.secretenv"),
    current("exec.validexitcode"),
    current("exporter.image.annotations"),
    current("exporter.image.attestations"),
    current("exporter.multiple"),
    current("exporter.session"),
    current("exporter.sourcedateepoch"),
    current("file.base"),
    current("file.copy.alwaysreplaceexistingdestpaths"),
    current("file.copy.includeexcludepatterns"),
    current("file.copy.requiredpaths"),
    current("file.rm.nofollowsymlink"),
    current("file.rm.wildcard"),
    current("file.symlink.create"),
    current("gc.freespacefilter"),
    current("history.filter"),
    current("mergeop"),
    current("meta.description"),
    current("meta.exportcache"),
    current("meta.ignorecache"),
    current("passthroughop"),
    current("platform"),
    current("soruce.http.uidgid"),
    current("source.buildop.llbfilename"),
    current("source.git"),
    current("source.git.bundle"),
    current("source.git.checkoutbundle"),
    current("source.git.checksum"),
    current("source.git.fetchbycommit"),
    current("source.git.fullurl"),
    current("source.git.httpauth"),
    current("source.git.keepgitdir"),
    current("source.git.knownsshhosts"),
    current("source.git.mountsshsock"),
    current("source.git.mtime"),
    current("source.git.signatureverify"),
    current("source.git.skipsubmodules"),
    current("source.git.subdir"),
    current("source.http"),
    current("source.http.auth"),
    current("source.http.checksum"),
    current("source.http.header"),
    current("source.http.perm"),
    current("source.http.signatureverify"),
    current("source.image"),
    current("source.image.checksum"),
    current("source.image.layerlimit"),
    current("source.image.resolvemode"),
    current("source.imageblob"),
    current("source.local"),
    current("source.local.differ"),
    current("source.local.excludepatterns"),
    current("source.local.followpaths"),
    current("source.local.includepatterns"),
    current("source.local.metadatatransfer"),
    current("source.local.sessionid"),
    current("source.local.sharedkeyhint"),
    current("source.local.unique"),
    current("source.ocilayout"),
    current("source.policy"),
    current("source.policy.session"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_order_and_without_duplicates() {
        let ids =
            |list: &[Capability]| list.iter().map(|capability| capability.id).collect::<Vec<_>>();
        assert!(ids(&LLB).is_sorted_by(|a, b| a < b));
        assert!(ids(&FRONTEND).is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn only_listed_names_are_known() {
        assert!(is_known("exec.meta.base") && is_known("soruce.http.uidgid"));
        assert!(!is_known("exec.meta") && !is_known("source.http.uidgid"));
    }
}
