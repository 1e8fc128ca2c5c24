//! What the command and the server of a volume say to each other.
//!
//! At the start, over a socket pair that is the server's standard input: the container's descriptor (and with it that of its
//! header file, where the header is detached), then the order
//! and the volume key, each as a 32-bit little-endian length and as many bytes. The order is JSON; the key is not, and
//! is read straight into locked memory. The answer is one line of JSON. Later, over the control socket: one line each, and
//! with some commands, once the server is ready for them, bytes and a key in the same form as an order.

use std::{
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    ops::Range,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    closing::Closing, desktop::OnDesktop, driver::DriverChoice, options::MountOptions, registry::Entry,
};
use crate::{
    error::{Error, ErrorKind, Result},
    export::{Owners, Share},
    sys::{memory::LockedBytes, socket::send_descriptors, user::User},
    volume::{Container, HeldFolder, LiveStatus, Work, room_taken},
};

/// Where a volume becomes visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The block file in the session's own directory, for this program's use.
    Private,
    /// The block file in a directory of the user's choice.
    Block {
        /// An empty directory.
        #[serde(with = "crate::text::path")]
        directory: PathBuf,
    },
    /// The file system inside the volume.
    FileSystem {
        /// An empty directory.
        #[serde(with = "crate::text::path")]
        mountpoint: PathBuf,
        /// Who mounts it.
        driver: DriverChoice,
        /// Whether [`make_mountpoint`](super::make_mountpoint) made the directory: it goes with the volume.
        #[serde(default)]
        made: bool,
        /// Whether nobody named the directory: it may show where udisks likes as well.
        #[serde(default)]
        free: bool,
        /// Whose the files are, where that was said.
        #[serde(default)]
        owners: Option<Owners>,
        /// With whom it is shared; only the builtin driver does that.
        #[serde(default)]
        share: Option<Share>,
        /// What else it is told.
        #[serde(default)]
        options: MountOptions,
    },
    /// The file system inside the volume, mounted by udisks where that likes.
    Desktop {
        /// Whose the files are, where that was said.
        #[serde(default)]
        owners: Option<Owners>,
        /// What else it is told.
        #[serde(default)]
        options: MountOptions,
    },
}

impl Target {
    /// The driver that was asked for.
    pub(super) const fn driver(&self) -> DriverChoice {
        match self {
            Self::FileSystem { driver, .. } => *driver,
            Self::Desktop { .. } => DriverChoice::Udisks,
            Self::Private | Self::Block { .. } => DriverChoice::Auto,
        }
    }

    /// Whose the files are to be.
    pub(super) const fn owners(&self) -> Option<Owners> {
        match self {
            Self::FileSystem { owners, .. } | Self::Desktop { owners, .. } => *owners,
            Self::Private | Self::Block { .. } => None,
        }
    }

    /// With whom it is shared.
    pub(super) const fn share(&self) -> Option<&Share> {
        match self {
            Self::FileSystem { share, .. } => share.as_ref(),
            _ => None,
        }
    }

    /// The mount options.
    pub(super) fn options(&self) -> MountOptions {
        match self {
            Self::FileSystem { options, .. } | Self::Desktop { options, .. } => options.clone(),
            Self::Private | Self::Block { .. } => MountOptions::default(),
        }
    }
}

/// What the server is to do. Nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The container's path, to show.
    #[serde(with = "crate::text::path")]
    pub container: PathBuf,
    /// The runtime directory.
    #[serde(with = "crate::text::path")]
    pub runtime: PathBuf,
    /// Where the volume becomes visible.
    pub target: Target,
    /// Refuse writes, on every level.
    pub read_only: bool,
    /// What the header was that was unlocked, so that nobody swaps it between the two readings: the digest of its fingerprint.
    pub fingerprint: Option<String>,
    /// The container's format, where it has no signature.
    #[serde(default)]
    pub format: Option<String>,
    /// The part of the file that is the container, where it is not all of it.
    #[serde(default)]
    pub section: Option<Range<u64>>,
    /// Whether the last descriptor is that of the file behind the container: it is only held.
    #[serde(default)]
    pub is_behind: bool,
    /// The terminal from which the volume is mounted, to tell its user there what cannot wait.
    #[serde(default)]
    pub terminal: Option<Terminal>,
    /// The user's home.
    #[serde(default, with = "crate::text::path::optional")]
    pub home: Option<PathBuf>,
    /// For whom root mounts it.
    #[serde(default)]
    pub owner: Option<User>,
    /// How it closes by itself.
    #[serde(default)]
    pub closing: Closing,
    /// The bus of the user's session, to tell him there what cannot wait.
    #[serde(default)]
    pub bus: Option<String>,
    /// How that tells of it.
    #[serde(default)]
    pub desktop: OnDesktop,
}

/// A terminal and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terminal {
    /// Its device.
    #[serde(with = "crate::text::path")]
    pub path: PathBuf,
    /// The device's owner: somebody else's terminal may bear its name later.
    pub owner: u32,
}

impl Terminal {
    /// That of the calling process.
    pub(super) fn current() -> Option<Self> {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            return None;
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{}", stderr.as_raw_fd())).ok()?;
        let owner = std::fs::metadata(&path).ok()?.uid();
        path.to_str()?;
        Some(Self { path, owner })
    }
}

/// Where the container is to be copied to once its volume is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Save {
    /// The free bytes there.
    pub free: u64,
    /// The copy's name, absolute: the server takes it where the volume comes down only later.
    #[serde(default, with = "crate::text::path::optional")]
    pub target: Option<PathBuf>,
}

impl Save {
    /// Whether the container can be copied and fits.
    ///
    /// # Errors
    /// `Usage` where it is no file, `NoSpace`.
    pub(super) fn check(&self, container: &Container) -> Result<()> {
        if let Some(folder) = HeldFolder::of(container) {
            return self.check_room(folder.takes()?);
        }
        // The file behind a loop device may have lost its name.
        let is_device = container.file().metadata().is_ok_and(|found| !found.is_file());
        if is_device && container.file_behind().is_none() {
            return Err(Error::new(
                ErrorKind::Usage,
                "its container is a device, which can be copied at any time",
            ));
        }
        self.check_room(room_taken(container.file())?)
    }

    fn check_room(&self, needed: u64) -> Result<()> {
        if needed > self.free {
            let free = self.free;
            let reason = format!("the copy takes {needed} bytes, and {free} are free; it stays as it is");
            return Err(Error::new(ErrorKind::NoSpace, reason).with_hint("choose another place for the copy"));
        }
        Ok(())
    }
}

/// The server's answer to an order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The volume is usable.
    Ready {
        /// What `list` shows.
        entry: Box<Entry>,
        /// What the user should know, a sentence each.
        warnings: Vec<String>,
        /// What may be of interest, a sentence each.
        details: Vec<String>,
    },
    /// It is not, and everything is undone.
    Failed(Failure),
}

/// What a command asks of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Command {
    /// Take everything down, wipe the keys and end.
    Unmount {
        /// Also where it is in use, and where the container has lost its name.
        force: bool,
        /// Lend the container afterwards, so that it can be copied, and end at [`Command::Saved`].
        #[serde(default)]
        save: Option<Save>,
    },
    /// The container that was lent for copying is saved.
    Saved,
    /// Look what has become of the container, and note it.
    Look,
    /// Lend the container's descriptor until the connection is closed. It comes after [`Outcome::Lent`].
    Lend,
    /// Something about the volume's re-encryption.
    Reencrypt(Reencrypt),
    /// The container has grown: show the volume as large as it is now. After [`Outcome::Proceed`] come no bytes, and the volume key.
    Grow,
    /// The volume has grown: make the file system as large that the server itself serves. The connection's end stops it.
    GrowFiles,
}

/// What a command asks of a server about re-encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reencrypt {
    /// Start one. After [`Outcome::Proceed`] come the bytes of the header that starts it, and the new volume key.
    Start(Work),
    /// Go on with one. After [`Outcome::Proceed`] come no bytes, and the volume key.
    Resume(Work),
    /// Have it rest.
    Pause,
    /// Say how it is.
    Status,
}

/// The server's answer to a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// Done; the keys are wiped.
    Done,
    /// The container's descriptor follows.
    Lent,
    /// It is noted what has become of the container.
    Looked,
    /// Understood so far: what belongs to the command may come.
    Proceed,
    /// How the volume's re-encryption is, after the command was carried out.
    Reencryption(LiveStatus),
    /// The volume has so many bytes now; and whether what its driver sees has them too.
    Grown {
        /// Bytes.
        size: u64,
        /// Whether the driver's device is as large.
        is_seen: bool,
    },
    /// The file system that the server itself serves is as large as the volume.
    FilesGrown {
        /// Its name.
        filesystem: String,
        /// Why it is not, where it grows only in another way; empty where nothing here makes it larger.
        left: Option<String>,
    },
    /// The volume is down and the keys are wiped, but not all could be written.
    Lossy(Failure),
    /// Not done, because what was written would be lost.
    Kept(Failure),
    /// Not done.
    Failed(Failure),
    /// Not done yet: what the server waits for. Another answer follows.
    Waiting(String),
    /// Not done yet, and the medium takes what it is given. Another answer follows.
    Writing,
    /// The volume is down, and a copy of its container is being made, as this was lost: so, in words. Another answer follows.
    Rescuing(String),
    /// That copy is made; and what went wrong on the way down.
    Rescued(Rescued),
    /// The medium does not answer: the keys are wiped and the server ends as soon as the kernel lets it; the rest is the command's.
    GivenUp(Failure),
}

/// What a server made of a container that was lost.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rescued {
    /// The copies.
    #[serde(with = "crate::text::path::list")]
    pub copies: Vec<PathBuf>,
    /// What went wrong on the way down.
    pub lossy: Option<Failure>,
}

/// An [`Error`] on its way to another process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    kind: String,
    action: Option<String>,
    reason: String,
    hint: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind().name().to_owned(),
            action: error.action().map(str::to_owned),
            reason: error.reason().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = KINDS.into_iter().find(|kind| kind.name() == failure.kind).unwrap_or(ErrorKind::Io);
        let mut error = Self::new(kind, failure.reason);
        if let Some(action) = failure.action {
            error = error.during(action);
        }
        if let Some(hint) = failure.hint {
            error = error.with_hint(hint);
        }
        error
    }
}

/// Sends the open container, locks and all: its descriptor, and that of its header file where the header is detached.
pub(super) fn send_container(stream: &UnixStream, container: &Container) -> io::Result<()> {
    let header = container.header_file().map(AsFd::as_fd);
    let descriptors: Vec<_> = std::iter::once(container.file().as_fd()).chain(header).collect();
    send_descriptors(stream, &descriptors)
}

/// The same for its server, which holds all locks from now on: with the file that shows the same bytes, where there is one.
pub(super) fn send_with_locks(stream: &UnixStream, container: &Container) -> io::Result<()> {
    let files = [Some(container.file()), container.header_file(), container.locked_too()];
    let descriptors: Vec<_> = files.into_iter().flatten().map(AsFd::as_fd).collect();
    send_descriptors(stream, &descriptors)
}

/// The container behind descriptors that came over a socket: this part of the file. `format` is what it was said to be.
pub(super) fn opened(
    descriptors: Vec<OwnedFd>,
    path: &Path,
    format: Option<&str>,
    section: Option<Range<u64>>,
) -> Result<Container> {
    let mut descriptors = descriptors.into_iter();
    let container = descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut container = Container::from_fd(container, path)?;
    if let Some(section) = section {
        container.narrow(section)?;
    }
    if let Some(name) = format {
        container.assume_named(name)?;
    }
    if let Some(header) = descriptors.next() {
        container.attach_header(&Container::from_fd(header, path)?)?;
    }
    Ok(container)
}

/// Sends the order and the volume key.
pub(super) fn send_order(stream: &UnixStream, order: &Order, key: &[u8]) -> io::Result<()> {
    send_with_key(stream, &serde_json::to_vec(order)?, key)
}

/// Receives the order and the volume key.
///
/// # Errors
/// `InvalidData` where either is longer than any can be.
pub(super) fn receive_order(stream: &UnixStream) -> io::Result<(Order, LockedBytes)> {
    let (order, key) = receive_with_key(stream)?;
    Ok((serde_json::from_slice(&order)?, key))
}

/// Sends some bytes and a key.
pub(super) fn send_with_key(mut stream: &UnixStream, bytes: &[u8], key: &[u8]) -> io::Result<()> {
    for part in [bytes, key] {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_le_bytes())?;
        stream.write_all(part)?;
    }
    Ok(())
}

/// Receives some bytes and a key, which is read straight into locked memory.
///
/// # Errors
/// `InvalidData` where either is longer than any can be.
pub(super) fn receive_with_key(mut stream: &UnixStream) -> io::Result<(Vec<u8>, LockedBytes)> {
    let mut bytes = vec![0; receive_length(stream, MAX_BYTES)?];
    stream.read_exact(&mut bytes)?;
    let mut key = LockedBytes::zeroed(receive_length(stream, MAX_KEY)?)?;
    stream.read_exact(key.as_mut_slice())?;
    Ok((bytes, key))
}

fn receive_length(mut stream: &UnixStream, most: usize) -> io::Result<usize> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > most { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
}

/// Sends one line of JSON.
pub(super) fn send<T: Serialize>(mut stream: &UnixStream, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Receives one line of JSON.
///
/// # Errors
/// `UnexpectedEof` where the other end is closed without a word, `WouldBlock` where the stream's timeout passed.
pub(super) fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    // Byte by byte: what comes behind the line, a descriptor perhaps, is for the next reader.
    BufReader::with_capacity(1, stream.take(MAX_LINE)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

/// An order, or a header.
const MAX_BYTES: usize = 64 * 1024;
const MAX_KEY: usize = 4096;
const MAX_LINE: u64 = 256 * 1024;

const KINDS: [ErrorKind; 15] = [
    ErrorKind::Usage,
    ErrorKind::Credentials,
    ErrorKind::Permission,
    ErrorKind::OutOfMemory,
    ErrorKind::NotAContainer,
    ErrorKind::Damaged,
    ErrorKind::Tampered,
    ErrorKind::Unsupported,
    ErrorKind::Busy,
    ErrorKind::Exists,
    ErrorKind::NotFound,
    ErrorKind::Io,
    ErrorKind::NoSpace,
    ErrorKind::Missing,
    ErrorKind::Interrupted,
];

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd, time::Duration};

    use super::*;
    use crate::sys::socket::receive_descriptors;

    fn order() -> Order {
        Order {
            container: "/home/a/photos.vault".into(),
            runtime: "/run/user/1000/strongroom".into(),
            target: Target::FileSystem {
                mountpoint: "/home/a/photos".into(),
                driver: DriverChoice::Auto,
                made: true,
                free: true,
                owners: Some(Owners::Me),
                share: Share::parse("user:1,group:2").ok(),
                options: MountOptions::parse("noatime").unwrap_or_default(),
            },
            closing: Closing { idle: Some(Duration::from_secs(900)), ..Closing::default() },
            bus: Some("unix:path=/run/user/1000/bus".to_owned()),
            desktop: OnDesktop { is_announced: true, bookmarks: Some("/home/a/bookmarks".into()) },
            read_only: true,
            fingerprint: None,
            format: Some("veracrypt".to_owned()),
            is_behind: false,
            section: Some(1 << 20..2 << 20),
            terminal: Some(Terminal { path: "/dev/pts/3".into(), owner: 1000 }),
            home: None,
            owner: Some(User { uid: 1000, gid: 100 }),
        }
    }

    #[test]
    fn an_order_arrives_with_its_key() {
        let (left, right) = UnixStream::pair().unwrap();
        send_order(&left, &order(), &[7; 64]).unwrap();
        let (received, key) = receive_order(&right).unwrap();
        assert_eq!(received, order());
        assert_eq!(key.as_slice(), [7; 64]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_taken() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(receive_order(&right).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_error_crosses_with_all_its_parts() {
        for kind in KINDS {
            let sent = Error::new(kind, "it is open").during("cannot unmount x").with_hint("close it");
            let received = Error::from(Failure::from(&sent));
            assert_eq!(received.kind(), kind);
            assert_eq!((received.to_string(), received.hint()), (sent.to_string(), sent.hint()));
        }
    }

    #[test]
    fn a_closed_socket_is_an_unexpected_end() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        assert_eq!(receive::<Command>(&right).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_descriptor_behind_a_line_is_not_lost() {
        let (left, right) = UnixStream::pair().unwrap();
        send(&left, &Outcome::Lent).unwrap();
        send_descriptors(&left, &[std::fs::File::open("/dev/null").unwrap().as_fd()]).unwrap();
        assert!(matches!(receive::<Outcome>(&right).unwrap(), Outcome::Lent));
        receive_descriptors(&right).unwrap();
    }

    #[test]
    fn a_command_is_one_line() {
        let (left, right) = UnixStream::pair().unwrap();
        let command = Command::Unmount { force: true, save: Some(Save { free: 7, target: None }) };
        send(&left, &command).unwrap();
        assert_eq!(receive::<Command>(&right).unwrap(), command);
    }
}
