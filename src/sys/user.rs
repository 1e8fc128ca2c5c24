//! Users of this machine, and the one for whom root works.

use std::{env, ffi::OsString, fs};

use rustix::process::{getgid, getuid};
use serde::{Deserialize, Serialize};

use super::process::is_root;

/// A user's number and primary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
}

impl User {
    /// For whom this process works: its own user, or who called root.
    pub fn served() -> Self {
        let own = Self { uid: getuid().as_raw(), gid: getgid().as_raw() };
        if is_root() { caller_of_root().unwrap_or(own) } else { own }
    }

    /// A user by name, or by the numbers of user and group: `anna`, `1000:1000`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn named(text: &str) -> Result<Self, String> {
        let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
        named_in(text, &passwd)
    }
}

/// The number of a user, by name or number. A number may be one that is known elsewhere only.
///
/// # Errors
/// What is wrong with it, in words.
pub fn user_named(text: &str) -> Result<u32, String> {
    number_of(text, PASSWD).ok_or_else(|| format!("there is no user {text:?} here; give a number"))
}

/// The same of a group.
///
/// # Errors
/// What is wrong with it, in words.
pub fn group_named(text: &str) -> Result<u32, String> {
    number_of(text, GROUPS).ok_or_else(|| format!("there is no group {text:?} here; give a number"))
}

/// The name of the user with this number; `None` where nobody has it here.
pub fn name_of_user(number: u32) -> Option<String> {
    name_of(number, PASSWD)
}

/// The same of a group.
pub fn name_of_group(number: u32) -> Option<String> {
    name_of(number, GROUPS)
}

/// What the first field is of the line of `file` whose third is this number.
fn name_of(number: u32, file: &str) -> Option<String> {
    let lines = fs::read_to_string(file).unwrap_or_default();
    let number = number.to_string();
    let mut numbered = lines.lines().filter(|line| line.split(':').nth(2) == Some(&number));
    numbered.next()?.split(':').next().map(str::to_owned)
}

/// What the third field is of the line of `file` that begins with this name (passwd(5), group(5)).
fn number_of(text: &str, file: &str) -> Option<u32> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|&number| number != u32::MAX);
    if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text);
    }
    let lines = fs::read_to_string(file).unwrap_or_default();
    let mut named = lines.lines().filter(|line| line.split(':').next() == Some(text));
    number(named.next()?.split(':').nth(2)?)
}

fn named_in(text: &str, passwd: &str) -> Result<User, String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|&number| number != u32::MAX);
    if let Some((uid, gid)) = text.split_once(':') {
        let numbers = number(uid).zip(number(gid));
        return numbers
            .map(|(uid, gid)| User { uid, gid })
            .ok_or_else(|| "user and group must be numbers".to_owned());
    }
    let is_meant = |name: &str, user: User| name == text || number(text) == Some(user.uid);
    let found = passwd.lines().filter_map(account).find(|&(name, user)| is_meant(name, user));
    found
        .map(|(_, user)| user)
        .ok_or_else(|| "there is no such user; give numbers, such as 1000:1000".to_owned())
}

/// Who called root, as `sudo`, `pkexec` and `doas` tell it. `None` where nobody did, and where it was root.
///
/// Only root may believe this: anybody can set these variables for programs of his own.
pub fn caller_of_root() -> Option<User> {
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    caller_by(|name| env::var_os(name), &passwd).filter(|user| user.uid != 0)
}

fn caller_by(variable: impl Fn(&str) -> Option<OsString>, passwd: &str) -> Option<User> {
    let text = |name: &str| variable(name)?.into_string().ok();
    let number = |name: &str| text(name)?.parse::<u32>().ok().filter(|&number| number != u32::MAX);
    let mut accounts = passwd.lines().filter_map(account);
    if let Some(uid) = number("SUDO_UID") {
        let gid = number("SUDO_GID").or_else(|| Some(accounts.find(|(_, user)| user.uid == uid)?.1.gid))?;
        return Some(User { uid, gid });
    }
    if let Some(uid) = number("PKEXEC_UID") {
        return accounts.find(|(_, user)| user.uid == uid).map(|(_, user)| user);
    }
    let doas = text("DOAS_USER")?;
    accounts.find(|(name, _)| *name == doas).map(|(_, user)| user)
}

/// The name and the numbers of a line of `/etc/passwd` (passwd(5)).
fn account(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, User { uid, gid }))
}

const PASSWD: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\n# a comment\n\
        anna:x:1000:100:Anna:/home/anna:/bin/bash\nben:x:1001:1001::/home/ben:/bin/sh\n";

    fn caller(variables: &[(&str, &str)]) -> Option<(u32, u32)> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(*value))
        };
        caller_by(variable, ACCOUNTS).map(|user| (user.uid, user.gid))
    }

    #[test]
    fn each_way_to_root_tells_who_went_it() {
        assert_eq!(caller(&[("SUDO_UID", "1000"), ("SUDO_GID", "1000")]), Some((1000, 1000)));
        assert_eq!(caller(&[("SUDO_UID", "1000")]), Some((1000, 100)));
        assert_eq!(caller(&[("PKEXEC_UID", "1001")]), Some((1001, 1001)));
        assert_eq!(caller(&[("DOAS_USER", "anna")]), Some((1000, 100)));
        assert_eq!(caller(&[]), None);
    }

    #[test]
    fn a_user_is_named_or_numbered() {
        for (text, expected) in
            [("anna", (1000, 100)), ("1001", (1001, 1001)), ("7:8", (7, 8)), ("0:0", (0, 0))]
        {
            assert_eq!(named_in(text, ACCOUNTS).map(|user| (user.uid, user.gid)), Ok(expected));
        }
        for text in ["", "carl", "4711", "anna:anna", "1000:", ":", "-1:0", "4294967295:0", "1:2:3"] {
            named_in(text, ACCOUNTS).unwrap_err();
        }
    }

    #[test]
    fn users_and_groups_have_numbers_also_where_nobody_knows_their_names() {
        assert_eq!((user_named("root"), user_named("4711")), (Ok(0), Ok(4711)));
        assert_eq!((group_named("root"), group_named("4711")), (Ok(0), Ok(4711)));
        for text in ["", "-1", "+1", "4294967295", "no-such-name", "root:x", ":"] {
            user_named(text).unwrap_err();
            group_named(text).unwrap_err();
        }
    }

    #[test]
    fn what_is_no_user_is_nobody() {
        for (name, value) in [
            ("SUDO_UID", "anna"),
            ("SUDO_UID", "-1"),
            ("SUDO_UID", "4294967295"),
            ("SUDO_UID", "99999999999"),
            ("PKEXEC_UID", "4711"),
            ("DOAS_USER", "nobody-like-this"),
            ("DOAS_USER", ""),
        ] {
            assert_eq!(caller(&[(name, value)]), None, "{name}={value}");
        }
    }
}
