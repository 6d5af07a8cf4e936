//! Who a process runs as, by the image's own files.

use std::io::Read as _;

use mount::{GuestPath, RootDir};

use crate::{SetupError, UserSpec};

/// The user files of an image are not larger than this.
const LARGEST_FILE: u64 = 10 << 20;
/// Larger ids do not fit where some systems keep them.
const LARGEST_ID: u32 = i32::MAX as u32;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further group ids; the first one is `gid`.
    pub groups: Vec<u32>,
    /// The home directory by the image's files.
    pub home: Option<String>,
}

/// Finds `user` in the files of the image at `root`.
pub(super) fn resolve(root: &RootDir, user: &UserSpec) -> Result<User, SetupError> {
    let read = |path: &str| read_file(root, path).map_err(|reason| invalid(user, reason));
    resolve_in(user, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// Reads a file of the image; one that is missing is empty.
fn read_file(root: &RootDir, path: &str) -> Result<String, String> {
    let Ok(path) = GuestPath::new(path) else { return Ok(String::new()) };
    let Ok(file) = root.open_file(&path) else { return Ok(String::new()) };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(format!("`{path}` is not a regular file"));
    }
    let mut bytes = Vec::new();
    let read = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read `{path}`: {error}"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("`{path}` exceeds {LARGEST_FILE} bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn invalid(user: &UserSpec, reason: String) -> SetupError {
    SetupError::UserInvalid { user: user.as_str().to_owned(), reason }
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { return None };
        let home = rest.get(1).copied().unwrap_or_default();
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// A name or a number, as one half of a [`UserSpec`] gives it.
enum Given<'a> {
    Number(u32),
    Name(&'a str),
}

impl<'a> Given<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        let number = text.parse::<u32>().ok().filter(|id| *id <= LARGEST_ID);
        number
            .map(Self::Number)
            .ok_or_else(|| format!("uids and gids must be in range 0-{LARGEST_ID}"))
    }
}

fn resolve_in(user: &UserSpec, passwd: &str, group: &str) -> Result<User, SetupError> {
    let text = user.as_str();
    let (user_text, group_text) = text.split_once(':').unwrap_or((text, ""));
    let user_text = if user_text.is_empty() { "0" } else { user_text };
    if let Some((uid, gid)) = both_numbers(user_text, group_text) {
        let account = accounts(passwd).find(|account| account.uid == uid);
        let home = account.map(|account| account.home.to_owned());
        return Ok(User { uid, gid, groups: vec![gid], home });
    }
    let given = Given::parse(user_text).map_err(|reason| invalid(user, reason))?;
    let account = accounts(passwd).find(|account| match given {
        Given::Number(uid) => account.uid == uid,
        Given::Name(name) => account.name == name,
    });
    let (uid, mut gid) = match (&account, given) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Given::Number(uid)) => (uid, 0),
        (None, Given::Name(name)) => return Err(SetupError::UserNotFound(name.to_owned())),
    };
    let mut further = Vec::new();
    if !group_text.is_empty() {
        gid = find_group(user, group_text, group)?;
    } else if let Some(account) = &account {
        let member = |group: &Group<'_>| group.members.split(',').any(|name| name == account.name);
        further.extend(groups(group).filter(member).map(|group| group.gid));
    }
    if !further.contains(&gid) {
        further.insert(0, gid);
    }
    Ok(User { uid, gid, groups: further, home: account.map(|account| account.home.to_owned()) })
}

/// Numbers on both sides need no file; `root` counts as a number.
fn both_numbers(user: &str, group: &str) -> Option<(u32, u32)> {
    let number = |text: &str| if text == "root" { Some(0) } else { text.parse().ok() };
    Some((number(user)?, number(group)?))
}

fn find_group(user: &UserSpec, text: &str, group: &str) -> Result<u32, SetupError> {
    match Given::parse(text).map_err(|reason| invalid(user, reason))? {
        Given::Number(gid) => Ok(gid),
        Given::Name(name) => groups(group)
            .find(|group| group.name == name)
            .map(|group| group.gid)
            .ok_or_else(|| SetupError::GroupNotFound(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1001:Ann:/home/ann:\n";
    const GROUP: &str = "root:x:0:root\nwheel:x:10:root,ann\nann:x:1001:\ndisk:x:6:ann\n";

    fn resolved(text: &str) -> Result<User, SetupError> {
        resolve_in(&UserSpec::new(text), PASSWD, GROUP)
    }

    fn ids(text: &str) -> (u32, u32, Vec<u32>) {
        let user = resolved(text).unwrap();
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(ids(""), (0, 0, vec![0, 10]));
        assert_eq!(ids("ann"), (1000, 1001, vec![1001, 10, 6]));
        assert_eq!(ids("1000"), (1000, 1001, vec![1001, 10, 6]));
        assert_eq!(ids("ann:disk"), (1000, 6, vec![6]));
        assert_eq!(ids("ann:77"), (1000, 77, vec![77]));
        assert_eq!(ids("1000:0"), (1000, 0, vec![0]));
        assert_eq!(ids("4242"), (4242, 0, vec![0]));
        assert_eq!(resolved("ann").unwrap().home.as_deref(), Some("/home/ann"));
        assert_eq!(resolved("1000:5").unwrap().home.as_deref(), Some("/home/ann"));
    }

    proptest! {
        #[test]
        fn any_files_and_any_user_are_read(
            user in "[a-z0-9:+-]{0,8}",
            passwd in "([a-z0-9:]{0,12}\n){0,4}",
            group in "([a-z0-9:,]{0,12}\n){0,4}",
        ) {
            if let Ok(user) = resolve_in(&UserSpec::new(user), &passwd, &group) {
                prop_assert!(user.groups.contains(&user.gid));
            }
        }
    }

    #[test]
    fn root_needs_no_files() {
        let user = resolve_in(&UserSpec::default(), "", "").unwrap();
        assert_eq!((user.uid, user.gid, user.groups), (0, 0, vec![0]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = resolved("bob").unwrap_err().to_string();
        assert_eq!(text, "unable to find user bob: no matching entries in passwd file");
        let text = resolved("ann:none").unwrap_err().to_string();
        assert_eq!(text, "unable to find group none: no matching entries in group file");
        assert!(matches!(resolved("-1"), Err(SetupError::UserInvalid { .. })));
        assert!(matches!(resolved("99999999999"), Err(SetupError::UserInvalid { .. })));
    }
}
