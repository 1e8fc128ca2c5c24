//! With whom a mount is shared: whom the kernel lets in besides whoever mounts.
//!
//! The kernel decides, by an access list on each file that it asks the server for: so it looks at a caller's groups itself, also where
//! it has a name or a page of a file in its own memory and asks nobody. The server looks at the caller's user once more.

use serde::{Deserialize, Serialize};

use crate::sys::user::{group_named, name_of_group, name_of_user, user_named};

/// Users and groups, by their numbers, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Share {
    /// Reads names or numbers: `user:anna,group:family`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut share = Self::default();
        for one in text.split(',') {
            match one.split_once(':') {
                Some(("user", name)) => share.users.push(user_named(name)?),
                Some(("group", name)) => share.groups.push(group_named(name)?),
                _ => return Err(format!("{one:?} is neither user:NAME nor group:NAME")),
            }
        }
        share.and(&Self::default())
    }

    /// Both together.
    ///
    /// # Errors
    /// That they are too many for an access list.
    pub fn and(mut self, other: &Self) -> Result<Self, String> {
        for (all, more) in [(&mut self.users, &other.users), (&mut self.groups, &other.groups)] {
            all.extend(more);
            all.sort_unstable();
            all.dedup();
        }
        let count = self.users.len() + self.groups.len();
        if count > MOST { Err(format!("{count} users and groups; {MOST} are the most")) } else { Ok(self) }
    }

    /// Whether it names nobody.
    pub const fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// All of them, as [`parse`](Self::parse) reads them.
    pub fn told(&self) -> String {
        let told = |kind: &str, number: u32, name: Option<String>| {
            format!("{kind}:{}", name.unwrap_or_else(|| number.to_string()))
        };
        let users = self.users.iter().map(|&user| told("user", user, name_of_user(user)));
        let groups = self.groups.iter().map(|&group| told("group", group, name_of_group(group)));
        users.chain(groups).collect::<Vec<_>>().join(",")
    }

    /// Whether this user may ask the server for anything, of whom the kernel let through. Whether he is in one of the groups only
    /// the kernel knows; root, whom it lets through everywhere, counts only where it is named.
    pub(super) fn admits(&self, uid: u32, me: u32) -> bool {
        uid == me || self.users.contains(&uid) || !self.groups.is_empty() && uid != 0
    }

    /// The mode of a file that is shown to all of these as to its owner: the group's bits are the most that the list grants.
    pub(super) const fn mode(mode: u16) -> u16 {
        mode & 0o7700 | owner_bits(mode) << 3
    }

    /// The access list of a file with this mode, as the kernel takes it (`linux/posix_acl_xattr.h`).
    pub(super) fn access_list(&self, mode: u16) -> Vec<u8> {
        let may = owner_bits(mode);
        let of = |tag: u16, ids: &[u32]| ids.iter().map(|id| (tag, may, *id)).collect::<Vec<_>>();
        let entries = [
            vec![(USER_OBJ, may, NO_ID)],
            of(USER, &self.users),
            vec![(GROUP_OBJ, 0, NO_ID)],
            of(GROUP, &self.groups),
            vec![(MASK, may, NO_ID), (OTHER, 0, NO_ID)],
        ];
        let mut list = VERSION.to_le_bytes().to_vec();
        for (tag, may, id) in entries.concat() {
            list.extend(tag.to_le_bytes());
            list.extend(may.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }
}

const fn owner_bits(mode: u16) -> u16 {
    mode >> 6 & 7
}

/// The extended attribute that is the access list.
pub(super) const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
/// The one that new files in a directory get.
pub(super) const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;
/// The kernel reads a list of one page.
const MOST: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_named_or_numbered() {
        let share = Share::parse("user:root,group:4294967000,user:4294967001,group:root,user:0").unwrap();
        assert_eq!(share.told(), "user:root,user:4294967001,group:root,group:4294967000");
        let share = Share::parse("user:root,group:7,user:4711,group:root,user:0").unwrap();
        assert_eq!(share, Share { users: vec![0, 4711], groups: vec![0, 7] });
        for text in
            ["", "anna", "user:", "group:no-such-group", "other:1", "user:1,", "user:-1", "user:4294967295"]
        {
            Share::parse(text).unwrap_err();
        }
        let many = |from: usize| Share {
            users: (from..from + 60).map(|id| u32::try_from(id).unwrap()).collect(),
            groups: Vec::new(),
        };
        assert_eq!(many(0).and(&many(0)).unwrap(), many(0));
        assert!(many(0).and(&many(60)).unwrap_err().contains("100"));
    }

    #[test]
    fn the_list_grants_what_the_owner_has_and_nothing_to_others() {
        let share = Share { users: vec![5], groups: vec![9] };
        let list = share.access_list(0o754);
        let entry = |number: usize| -> [u8; 8] { list[4 + 8 * number..][..8].try_into().unwrap() };
        assert_eq!((list.len(), &list[..4]), (4 + 8 * 6, &[2, 0, 0, 0][..]));
        assert_eq!(entry(0), [1, 0, 7, 0, 255, 255, 255, 255]);
        assert_eq!(entry(1), [2, 0, 7, 0, 5, 0, 0, 0]);
        assert_eq!(entry(2), [4, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(entry(3), [8, 0, 7, 0, 9, 0, 0, 0]);
        assert_eq!(entry(4), [0x10, 0, 7, 0, 255, 255, 255, 255]);
        assert_eq!(entry(5), [0x20, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!((Share::mode(0o754), Share::mode(0o4500), Share::mode(0o077)), (0o770, 0o4550, 0));
    }

    #[test]
    fn the_server_admits_root_only_where_it_is_named_or_mounts() {
        let users = Share { users: vec![5], groups: Vec::new() };
        assert!(users.admits(5, 1) && users.admits(1, 1) && !users.admits(6, 1) && !users.admits(0, 1));
        let group = Share { users: Vec::new(), groups: vec![9] };
        assert!(group.admits(6, 1) && !group.admits(0, 1) && group.admits(0, 0));
        assert!(Share { users: vec![0], groups: vec![9] }.admits(0, 1));
    }
}
