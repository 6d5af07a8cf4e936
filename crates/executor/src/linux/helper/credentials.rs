//! From root with everything to the user with what the user may have.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use rustix::thread::{Gid, Uid};

use super::reason::Doing as _;
use super::user::User;
use crate::{Security, SetupError};

/// What a sandboxed process may have: the usual default of containers.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Becomes `user`, for good. Of the capabilities, those that remain permitted are what the kernel lets
/// the executed program have: all of them for root, none for others, as the bounding set says.
pub(super) fn become_user(user: &User, security: Security) -> Result<(), SetupError> {
    if security == Security::Sandbox {
        limit_bounding_set(DEFAULT).doing("limit the capabilities")?;
    }
    let had = rustix::thread::capabilities(None).doing("read the capabilities")?.permitted;
    let allowed = match security {
        Security::Sandbox => had & DEFAULT,
        Security::Insecure => had,
    };
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).doing("set the groups")?;
    rustix::thread::set_keep_capabilities(true).doing("keep the capabilities")?;
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("set the group")?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("set the user")?;
    let inheritable = match security {
        Security::Sandbox => CapabilitySet::empty(),
        Security::Insecure => allowed,
    };
    let sets = CapabilitySets { effective: allowed, permitted: allowed, inheritable };
    rustix::thread::set_capabilities(None, sets).doing("set the capabilities")?;
    for capability in inheritable.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .doing("pass the capabilities on")?;
    }
    Ok(())
}

/// Drops what is not in `wanted`, for good.
fn limit_bounding_set(wanted: CapabilitySet) -> rustix::io::Result<()> {
    let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    for capability in all.filter(|capability| !wanted.contains(*capability)) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            done => done?,
        }
    }
    Ok(())
}
