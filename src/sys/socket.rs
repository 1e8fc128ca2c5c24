//! Unix sockets that carry an open descriptor, and tell who is at the other end.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
};

/// Sends one byte with a copy of `fd`. The lock and position of the open file are shared, not copied.
pub fn send_descriptor(stream: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send_descriptor`] sent. The descriptor does not pass to programs that are started later.
///
/// # Errors
/// `InvalidData` where no descriptor came along, `UnexpectedEof` where the other end is closed.
pub fn receive_descriptor(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
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
    fn a_descriptor_arrives_as_the_same_open_file() {
        let (left, right) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        send_descriptor(&left, writer.as_fd()).unwrap();
        drop(writer);
        let mut received = File::from(receive_descriptor(&right).unwrap());
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
        assert_eq!(receive_descriptor(&right).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_peer_of_a_pair_is_the_same_user() {
        let (left, _right) = UnixStream::pair().unwrap();
        assert_eq!(peer_user(&left).unwrap(), super::super::process::effective_user());
    }
}
