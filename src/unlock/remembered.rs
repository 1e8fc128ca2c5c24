//! Passwords that the user's keyring remembers: taken before anybody is asked, kept only where the user says so.
//!
//! A password alone is remembered, and only one that has opened the vault: no recovery key, no PIN, and nothing that a keyfile is needed
//! beside. The keyring is a convenience. What goes wrong with it is told, and then the user is asked.

use super::{Credentials, Error, ErrorKind, Header, Means, News, Result, Task, Unlocking, front::at};
use crate::{
    format::{Attempt, Unlocked},
    keyring::Keyring,
};

/// What is wanted of the user's keyring.
#[derive(Debug, Clone, Copy, Default)]
pub struct Remembering<'a> {
    /// The keyring; `None` where there is none, or it is not to be touched.
    pub keyring: Option<&'a dyn Keyring>,
    /// Whether a password may come from there: not where the user names another source.
    pub may_take: bool,
    /// Whether the password that opens the vault is to be kept there.
    pub shall_keep: bool,
}

/// By what name a keyring finds a vault: the UUID in its header. A copy of the vault has it too; its path has no part in it.
///
/// # Errors
/// `Unsupported` where it has none, as those have that show nothing of themselves.
pub fn name_in_keyring(header: &dyn Header) -> Result<String> {
    // In a header that somebody made up it may be anything.
    let is_name = |uuid: &String| {
        (1..=LONGEST_UUID).contains(&uuid.len()) && uuid.bytes().all(|byte| byte.is_ascii_graphic())
    };
    header
        .describe()
        .uuid
        .filter(is_name)
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "it has no UUID for a keyring to find it by"))
}

impl Unlocking<'_> {
    /// Opens the vault with the password that is remembered for it; `None` where the user is to be asked.
    pub(super) fn open_remembered(&self, attempt: &Attempt<'_>) -> Result<Option<(Unlocked, Credentials)>> {
        let Self { front, header, path, .. } = self;
        let Some(keyring) = self.keyring().filter(|_| self.wish.remembering.may_take) else {
            return Ok(None);
        };
        let Ok(name) = name_in_keyring(*header) else { return Ok(None) };
        let password = match at(*front, Task::Keyring, || keyring.password(&name)) {
            Ok(Some(password)) => password,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            // Most who have no keyring never wanted one, and who wants one is told when it is to keep something.
            Err(error) if error.kind() == ErrorKind::Missing => return Ok(None),
            Err(error) => {
                front.tell(&News::NotTaken { path, error: &error });
                return Ok(None);
            }
        };
        let credentials = Credentials::Password { password, keyfiles: Vec::new() };
        match at(*front, Task::Derive, || header.unlock(&credentials, attempt)) {
            Ok(unlocked) => {
                front.tell(&News::Remembered { path });
                self.tell_opened(&unlocked);
                Ok(Some((unlocked, credentials)))
            }
            Err(error) if error.kind() == ErrorKind::Credentials => {
                front.tell(&News::RememberedWrong { path });
                Ok(None)
            }
            Err(error) => Err(self.explain(error, attempt)),
        }
    }

    /// Has the keyring keep the password that opened the vault, where that is wanted.
    pub(super) fn remember(&self, credentials: &Credentials) {
        let Self { front, header, path, .. } = self;
        let Some(keyring) = self.keyring().filter(|_| self.wish.remembering.shall_keep) else { return };
        let Credentials::Password { password, .. } = credentials else { return };
        let label = format!("strongroom: {}", path.file_name().unwrap_or(path.as_os_str()).display());
        let kept = name_in_keyring(*header)
            .and_then(|name| at(*front, Task::Keyring, || keyring.keep(&name, &label, password)));
        front.tell(&match &kept {
            Ok(()) => News::Kept { path },
            Err(error) => News::NotKept { path, error },
        });
    }

    /// The keyring, where a password alone opens the vault.
    fn keyring(&self) -> Option<&dyn Keyring> {
        let is_alone = matches!(self.wish.means, Means::Password { keyfiles: [], .. });
        self.wish.remembering.keyring.filter(|_| is_alone)
    }
}

/// More than a UUID has, and what a LUKS header has room for.
const LONGEST_UUID: usize = 64;

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, path::Path};

    use super::{
        super::{Known, Most, PinWish, Wish, scripted::Scripted},
        *,
    };
    use crate::{
        crypto::secret::Password,
        format::{Format, native::Native},
        storage::MemoryStorage,
    };

    const PASSWORD: &str = "correct horse battery staple";

    /// A keyring with one vault's password in it, or with none, or one that fails.
    #[derive(Debug, Default)]
    struct Shelf {
        kept: RefCell<Option<(String, Vec<u8>)>>,
        fails: Option<ErrorKind>,
    }

    impl Shelf {
        fn with(password: &str) -> Self {
            let kept = (name_in_keyring(&*header()).unwrap(), password.as_bytes().to_vec());
            Self { kept: RefCell::new(Some(kept)), fails: None }
        }

        fn kept(&self) -> Option<String> {
            self.kept.borrow().as_ref().map(|(_, password)| String::from_utf8(password.clone()).unwrap())
        }
    }

    impl Keyring for Shelf {
        fn has(&self, uuid: &str) -> Result<bool> {
            Ok(self.password(uuid)?.is_some())
        }

        fn password(&self, uuid: &str) -> Result<Option<Password>> {
            if let Some(kind) = self.fails {
                return Err(Error::new(kind, "it failed"));
            }
            let kept = self.kept.borrow();
            let found = kept.as_ref().filter(|(name, _)| name == uuid);
            Ok(found.map(|(_, password)| Password::copy_of(password).unwrap()))
        }

        fn keep(&self, uuid: &str, label: &str, password: &Password) -> Result<()> {
            assert_eq!(label, "strongroom: vault");
            if let Some(kind) = self.fails {
                return Err(Error::new(kind, "it failed"));
            }
            *self.kept.borrow_mut() = Some((uuid.to_owned(), password.expose().to_vec()));
            Ok(())
        }

        fn forget(&self, _: Option<&str>) -> Result<usize> {
            Ok(self.kept.take().into_iter().count())
        }
    }

    fn header() -> Box<dyn Header> {
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/vectors/native/password.img");
        Native.read_header(&MemoryStorage::new(std::fs::read(image).unwrap())).unwrap()
    }

    fn unlock(front: &Scripted, means: Means<'_>, remembering: Remembering<'_>) -> Result<()> {
        let wish = Wish {
            means,
            keyslot: None,
            most: Most::default(),
            known: Known::default(),
            pin: PinWish::default(),
            remembering,
        };
        let path = Path::new("some/vault");
        Unlocking { front, path, header: &*header(), wish: &wish }.unlock().map(drop)
    }

    fn typed() -> Means<'static> {
        Means::Password { keyfiles: &[], is_named: false }
    }

    fn taking(shelf: &Shelf, shall_keep: bool) -> Remembering<'_> {
        Remembering { keyring: Some(shelf), may_take: true, shall_keep }
    }

    #[test]
    fn a_remembered_password_opens_without_a_question() {
        let front = Scripted::answering([]);
        unlock(&front, typed(), taking(&Shelf::with(PASSWORD), false)).unwrap();
        assert_eq!(front.seen(), ["Remembered { path: \"some/vault\" }", "keyslot 0"]);
    }

    #[test]
    fn one_that_opens_nothing_is_told_and_asked_anew_and_stays_unless_it_is_to_be_replaced() {
        let wrong = "RememberedWrong { path: \"some/vault\" }";
        let shelf = Shelf::with("the old one");
        let front = Scripted::answering([PASSWORD]);
        unlock(&front, typed(), taking(&shelf, false)).unwrap();
        assert_eq!(front.seen(), [wrong, "password", "keyslot 0"]);
        assert_eq!(shelf.kept().unwrap(), "the old one");

        // It costs the user none of his tries.
        let front = Scripted::answering(["one", "two", PASSWORD]);
        unlock(&front, typed(), taking(&shelf, true)).unwrap();
        assert_eq!(front.seen().last().unwrap(), "Kept { path: \"some/vault\" }");
        assert_eq!(shelf.kept().unwrap(), PASSWORD);
    }

    #[test]
    fn nothing_is_kept_without_the_word_nor_before_it_opens() {
        let shelf = Shelf::default();
        unlock(&Scripted::answering([PASSWORD]), typed(), taking(&shelf, false)).unwrap();
        assert_eq!(shelf.kept(), None);
        unlock(&Scripted::answering(["one", "two", "three"]), typed(), taking(&shelf, true)).unwrap_err();
        assert_eq!(shelf.kept(), None);
        unlock(&Scripted::answering(["one", PASSWORD]), typed(), taking(&shelf, true)).unwrap();
        assert_eq!(shelf.kept().unwrap(), PASSWORD);
    }

    #[test]
    fn what_a_source_gives_is_not_taken_from_the_keyring() {
        let shelf = Shelf::with("the old one");
        let front = Scripted::answering([PASSWORD]);
        let remembering = Remembering { may_take: false, ..taking(&shelf, true) };
        unlock(&front, typed(), remembering).unwrap();
        assert_eq!(front.seen(), ["password", "keyslot 0", "Kept { path: \"some/vault\" }"]);
    }

    #[test]
    fn a_keyring_that_fails_stops_nobody() {
        for (kind, told) in [(ErrorKind::Missing, 0), (ErrorKind::Io, 1), (ErrorKind::Permission, 1)] {
            let shelf = Shelf { fails: Some(kind), ..Shelf::default() };
            let front = Scripted::answering([PASSWORD]);
            unlock(&front, typed(), taking(&shelf, true)).unwrap();
            let seen = front.seen();
            assert_eq!(seen.iter().filter(|line| line.starts_with("NotTaken")).count(), told, "{seen:?}");
            assert_eq!(seen.iter().filter(|line| line.starts_with("NotKept")).count(), 1, "{seen:?}");
        }
        let shelf = Shelf { fails: Some(ErrorKind::Interrupted), ..Shelf::default() };
        let error = unlock(&Scripted::answering([PASSWORD]), typed(), taking(&shelf, false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn neither_a_recovery_key_nor_what_needs_a_keyfile_is_remembered() {
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/vectors/native/password.img");
        let keyfiles = [image.into()];
        let shelf = Shelf::with(PASSWORD);
        for means in [Means::RecoveryKey, Means::Password { keyfiles: &keyfiles, is_named: false }] {
            let front = Scripted::answering([]);
            unlock(&front, means, taking(&shelf, true)).unwrap_err();
            assert!(!front.seen().iter().any(|line| line.starts_with("Remembered")));
        }
    }
}
