//! Which `fuse2fs` is installed, and what that means for data.

use std::{fmt, path::Path, sync::atomic::AtomicBool};

use super::program;
use crate::error::Result;

/// A version of e2fsprogs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The first version without the known data bugs of its forerunners, and the first with `cache_size`.
    pub(super) const FIXED: Self = Self(1, 47, 3);

    /// That of the installed `fuse2fs`; `None` where there is none, or its answer is not understood.
    ///
    /// # Errors
    /// `Interrupted`, or what starting it gave.
    pub(super) fn installed(interrupted: &AtomicBool) -> Result<Option<Self>> {
        program::find("fuse2fs").map_or(Ok(None), |program| Self::of(&program, interrupted))
    }

    /// Asks the program; `None` where its answer is not understood.
    ///
    /// # Errors
    /// `Interrupted`, or what starting it gave.
    pub(super) fn of(program: &Path, interrupted: &AtomicBool) -> Result<Option<Self>> {
        let finished = program::run(program::command(program).arg("-V"), interrupted)?;
        // The versions known here say it on standard error.
        Ok(Self::parse(&finished.errors).or_else(|| Self::parse(&finished.output)))
    }

    /// `fuse2fs 1.47.0 (5-Feb-2023)` and more lines; a version may have two numbers, or end in `-WIP`.
    fn parse(output: &str) -> Option<Self> {
        let version = output.lines().find_map(|line| line.strip_prefix("fuse2fs "))?;
        let version = version.split([' ', '-', '~']).next()?;
        let mut numbers = version.split('.').map(str::parse);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().unwrap_or(Ok(0)).ok()?;
        Some(Self(major, minor, patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Whether it is known to write ext4 with extents without damaging it.
///
/// 1.47.0 does damage them: see `tests/vault/random_writes.rs`.
pub(super) fn is_sound(version: Option<Version>) -> bool {
    version.is_some_and(|version| version >= Version::FIXED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let old = Version::parse("fuse2fs 1.47.0 (5-Feb-2023)\nFUSE library version: 2.9.9\n").unwrap();
        assert_eq!(old, Version(1, 47, 0));
        assert!(old < Version::FIXED);
        assert_eq!(Version::parse("fuse2fs 1.48 (1-Jan-2027)"), Some(Version(1, 48, 0)));
        assert_eq!(Version::parse("fuse2fs 1.47.4-rc1 (1-Jan-2026)"), Some(Version(1, 47, 4)));
        assert_eq!(Version::parse("what?"), None);
    }

    #[test]
    fn an_unknown_version_is_not_trusted() {
        assert!(!is_sound(None) && !is_sound(Some(Version(1, 47, 2))));
        assert!(is_sound(Some(Version::FIXED)) && is_sound(Some(Version(2, 0, 0))));
    }
}
