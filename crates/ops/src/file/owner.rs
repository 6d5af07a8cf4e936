//! Users and groups by name, as the files of an image have them.

use mount::{GuestPath, RootDir};

use super::FileError;
use super::entry::Owner;

/// A user or group file larger than this is not one (bytes).
const FILE_MAX: u64 = 16 << 20;

/// A user or group of an action, with the tree that knows its name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name<'a> {
    /// By number.
    Id(u32),
    /// By name, to be looked up in this tree; none if the tree is empty.
    Named(&'a str, Option<&'a RootDir>),
}

/// Returns the owner that an action asks for. A user given by name brings its group along, one given
/// by number takes the same number as group; a name that is not found is 0, as in BuildKit.
pub(crate) fn owner(user: Option<Name<'_>>, group: Option<Name<'_>>) -> Result<Owner, FileError> {
    let (uid, own_gid) = match user {
        None => (0, 0),
        Some(Name::Id(id)) => (id, id),
        Some(Name::Named(name, tree)) => passwd_entry(name, tree)?.unwrap_or((0, 0)),
    };
    let gid = match group {
        None => own_gid,
        Some(Name::Id(id)) => id,
        Some(Name::Named(name, tree)) => group_entry(name, tree)?.unwrap_or(0),
    };
    Ok(Owner { uid, gid })
}

fn passwd_entry(name: &str, tree: Option<&RootDir>) -> Result<Option<(u32, u32)>, FileError> {
    let Some(text) = read("/etc/passwd", tree)? else { return Ok(None) };
    Ok(fields_of(&text, name).and_then(|fields| {
        let uid = fields.get(2)?.parse().ok()?;
        Some((uid, fields.get(3)?.parse().ok()?))
    }))
}

fn group_entry(name: &str, tree: Option<&RootDir>) -> Result<Option<u32>, FileError> {
    let Some(text) = read("/etc/group", tree)? else { return Ok(None) };
    Ok(fields_of(&text, name).and_then(|fields| fields.get(2)?.parse().ok()))
}

/// Returns the colon-separated fields of the first line that begins with `name`.
fn fields_of<'t>(text: &'t str, name: &str) -> Option<Vec<&'t str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)
}

fn read(path: &str, tree: Option<&RootDir>) -> Result<Option<String>, FileError> {
    use std::io::Read as _;
    let Some(tree) = tree else { return Ok(None) };
    let file = match tree.open_file(&GuestPath::new(path)?) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use mount::HostPath;

    use super::*;

    #[test]
    fn names_and_numbers_follow_the_rules() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::fs::write(directory.path().join("etc/passwd"), "root:x:0:0::/:\napp:x:10:20::/:\n")
            .unwrap();
        std::fs::write(directory.path().join("etc/group"), "app:x:20:\nstaff:x:50:app\n").unwrap();
        let tree = RootDir::open(&HostPath::new(directory.path()).unwrap()).unwrap();
        let named = |name| Some(Name::Named(name, Some(&tree)));
        for (user, group, uid, gid) in [
            (named("app"), None, 10, 20),
            (named("app"), named("staff"), 10, 50),
            (Some(Name::Id(7)), None, 7, 7),
            (Some(Name::Id(7)), Some(Name::Id(8)), 7, 8),
            (named("nobody-knows"), None, 0, 0),
            (None, named("staff"), 0, 50),
            (Some(Name::Named("app", None)), None, 0, 0),
        ] {
            assert_eq!(owner(user, group).unwrap(), Owner { uid, gid });
        }
    }
}
