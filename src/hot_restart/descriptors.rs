//! File descriptors over a Unix socket.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors in one message: two listening sockets and two locks.
const MOST: usize = 4;
/// The byte that carries the descriptors; a message cannot be empty.
const CARRIER: u8 = b'+';

/// Sends up to four descriptors.
pub(super) async fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors"));
        }
        let bytes = [IoSlice::new(&[CARRIER])];
        Ok(sendmsg(stream.as_fd(), &bytes, &mut ancillary, SendFlags::empty())?)
    });
    sent.await.map(drop)
}

/// Receives the descriptors of one message. They are closed in programs that this process starts.
pub(super) async fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let received = stream.async_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let message = recvmsg(stream.as_fd(), &mut bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        if message.bytes != 1 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        Ok(rights.flatten().collect())
    });
    received.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[tokio::test]
    async fn a_descriptor_is_the_same_file_at_the_other_end() {
        let (one, other) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        send(&one, &[file.as_fd(), one.as_fd()]).await.unwrap();
        let mut received = receive(&other).await.unwrap();
        assert_eq!(received.len(), 2);
        let mut same = File::from(received.remove(0));
        file.write_all(b"text").unwrap();
        same.rewind().unwrap();
        let mut text = String::new();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        assert_eq!(receive(&other).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
