//! Unix sockets that carry open descriptors, and tell who is at the other end.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
};

/// The most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 4;

/// Sends one byte with copies of up to [`MAX_DESCRIPTORS`] descriptors. Locks and positions of the open files are shared, not
/// copied.
pub fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send_descriptors`] sent, in order. The descriptors do not pass to programs that are started later.
///
/// # Errors
/// `InvalidData` where no descriptor came along, `UnexpectedEof` where the other end is closed.
pub fn receive_descriptors(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect::<Vec<_>>()),
        _ => None,
    });
    received.filter(|descriptors| !descriptors.is_empty()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Makes the socket `path` and listens there, however long the name of its folder is: an address has room for 107 bytes.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let (_folder, short) = short_name(path)?;
    UnixListener::bind(short)
}

/// Connects to the socket `path`, however long the name of its folder is.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = short_name(path)?;
    UnixStream::connect(short)
}

/// Another name of `path`, as long as the folder that comes with it is open.
fn short_name(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(parent, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((folder, short))
}

/// The user number of the process at the other end, as it was when it connected.
pub fn peer_user(stream: &UnixStream) -> io::Result<u32> {
    Ok(socket_peercred(stream)?.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn descriptors_arrive_in_order_as_the_same_open_files() {
        let (left, right) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        send_descriptors(&left, &[writer.as_fd(), null.as_fd()]).unwrap();
        drop(writer);
        let mut received = receive_descriptors(&right).unwrap().into_iter();
        let (mut received, second) = (File::from(received.next().unwrap()), received.next());
        assert!(second.is_some());
        received.write_all(b"here").unwrap();
        drop(received);
        let mut text = String::new();
        let mut reader = reader;
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
    }

    #[test]
    fn a_message_without_descriptor_is_invalid() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&[0]).unwrap();
        assert_eq!(receive_descriptors(&right).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_socket_in_a_folder_with_a_long_name_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("a".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let path = long.join("control");
        let listener = listen(&path).unwrap();
        drop(connect(&path).unwrap());
        listener.accept().unwrap();
    }

    #[test]
    fn the_peer_of_a_pair_is_the_same_user() {
        let (left, _right) = UnixStream::pair().unwrap();
        assert_eq!(peer_user(&left).unwrap(), super::super::process::effective_user());
    }
}
