//! Finding the command, as a shell would.

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use crate::SetupError;

/// What containers get when nobody says otherwise.
pub(super) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the path of the program that `command` names, as this process sees the file system.
pub(super) fn find(command: &str, env: &[String]) -> Result<String, SetupError> {
    if command.contains('/') {
        return match executable(command) {
            Ok(()) => Ok(command.to_owned()),
            Err(errno) => Err(not_executable(command, errno)),
        };
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let directories = path.unwrap_or_default().split(':').filter(|directory| !directory.is_empty());
    let mut candidates = directories.map(|directory| format!("{directory}/{command}"));
    let found = candidates.find(|candidate| !command.is_empty() && executable(candidate).is_ok());
    found.ok_or_else(|| SetupError::CommandNotFound(command.to_owned()))
}

/// Says why `command` cannot be executed.
pub(super) fn not_executable(command: &str, errno: Errno) -> SetupError {
    let reason = nix::errno::Errno::from_raw(errno.raw_os_error()).desc().to_lowercase();
    SetupError::CommandNotExecutable { command: command.to_owned(), reason }
}

fn executable(path: &str) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}
