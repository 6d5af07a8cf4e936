//! Containers and processes that a frontend asks for (protocol page `gateway.md` §4).

use bridge::{
    BuildError, ContainerMount, ContainerProcess, ContainerRequest, Detail, Kind, RefHandle,
};
use proto::gateway::exec_message::Input;
use proto::{gateway, pb};

use super::{invalid, platform_from_wire, to_rpc};

/// The exit status of a process whose own is not known.
const UNKNOWN_EXIT: u32 = 255;

fn refused(error: llb::OpError) -> BuildError {
    BuildError::from_error(Kind::InvalidRequest, error)
}

/// Returns the container that is asked for.
pub fn container(wire: gateway::NewContainerRequest) -> Result<ContainerRequest, BuildError> {
    let mounts = wire.mounts.into_iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    match mounts.iter().filter(|one| one.mount.is_root()).count() {
        1 => {}
        0 => return Err(invalid("the container has no root: one mount must be at `/`")),
        _ => return Err(invalid("the container has more than one mount at `/`")),
    }
    Ok(ContainerRequest {
        mounts,
        files: Vec::new(),
        network: llb::wire::net_mode(wire.network).map_err(refused)?,
        platform: wire.platform.map(platform_from_wire),
        extra_hosts: wire.extra_hosts.into_iter().map(Into::into).collect(),
        hostname: wire.hostname,
    })
}

fn mount(wire: pb::Mount) -> Result<ContainerMount, BuildError> {
    let reference = RefHandle::new(wire.result_id.clone());
    Ok(ContainerMount { mount: llb::wire::exec_mount(wire).map_err(refused)?, reference })
}

/// Returns the process that is asked for.
pub fn process(wire: gateway::InitMessage) -> Result<ContainerProcess, BuildError> {
    let meta = wire.meta.ok_or_else(|| invalid("the process has no description"))?;
    if meta.args.is_empty() {
        return Err(invalid("the process has no command"));
    }
    Ok(ContainerProcess {
        args: meta.args,
        env: meta.env,
        secret_env: llb::wire::secret_env(wire.secretenv),
        cwd: meta.cwd,
        user: meta.user,
        security: llb::wire::security_mode(wire.security).map_err(refused)?,
        tty: wire.tty,
    })
}

/// Returns how a process ended.
pub fn exit(status: Result<u32, BuildError>) -> gateway::ExitMessage {
    let error = match status {
        Ok(0) => return gateway::ExitMessage::default(),
        Ok(code) => BuildError::new(Kind::User, format!("exit code: {code}"))
            .with_detail(Detail::Exit(code)),
        Err(error) => error,
    };
    let code = error.details().iter().find_map(|detail| match detail {
        Detail::Exit(code) => Some(*code),
        _ => None,
    });
    gateway::ExitMessage { code: code.unwrap_or(UNKNOWN_EXIT), error: Some(to_rpc(&error)) }
}

/// Returns a message about a process.
pub fn exec_message(process: &str, input: Input) -> gateway::ExecMessage {
    gateway::ExecMessage { process_id: process.to_owned(), input: Some(input) }
}

#[cfg(test)]
mod tests {
    use llb::{MountKind, NetMode};

    use super::*;

    fn at(dest: &str) -> pb::Mount {
        pb::Mount { dest: dest.to_owned(), result_id: "r".to_owned(), ..Default::default() }
    }

    fn asked(mounts: &[&str]) -> gateway::NewContainerRequest {
        let mounts = mounts.iter().map(|dest| at(dest)).collect();
        gateway::NewContainerRequest { mounts, ..Default::default() }
    }

    #[test]
    fn a_container_has_exactly_one_root() {
        let container_of = |mounts: &[&str]| container(asked(mounts));
        let made = container_of(&["/", "/src"]).unwrap();
        assert_eq!(made.mounts[1].reference.as_str(), "r");
        assert_eq!(
            (&made.mounts[0].mount.kind, made.network),
            (&MountKind::Bind, NetMode::Sandbox)
        );
        for wrong in [&["/src"][..], &["/", "/"], &[]] {
            assert!(container_of(wrong).unwrap_err().message().contains("`/`"), "{wrong:?}");
        }
        let odd = gateway::NewContainerRequest { network: 9, ..asked(&["/"]) };
        assert!(container(odd).is_err());
    }

    #[test]
    fn a_process_has_a_command() {
        assert!(process(gateway::InitMessage::default()).is_err());
        let meta = pb::Meta { args: vec!["sh".to_owned()], ..Default::default() };
        let init = gateway::InitMessage { meta: Some(meta), tty: true, ..Default::default() };
        assert!(process(init.clone()).unwrap().tty);
        let odd = gateway::InitMessage { security: 7, ..init };
        assert!(process(odd).is_err());
    }

    #[test]
    fn an_exit_says_why_it_is_no_success() {
        assert_eq!(exit(Ok(0)), gateway::ExitMessage::default());
        let failed = exit(Ok(3));
        let error = failed.error.unwrap();
        assert_eq!((failed.code, &*error.message, error.details.len()), (3, "exit code: 3", 1));
        let unknown = exit(Err(BuildError::new(Kind::User, "no such command")));
        assert_eq!(unknown.code, UNKNOWN_EXIT);
    }
}
