//! Gzip without compression: each frame of a body is one stored block, readable as soon as it came.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::body::Frame;

/// Magic number, deflate, no flags, no time, unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The most bytes that a stored block can contain.
const BLOCK: usize = 0xffff;

/// Encodes one gzip member.
#[derive(Debug)]
struct Member {
    checksum: crc32fast::Hasher,
    length: u32,
}

impl Member {
    /// Encodes `bytes` in stored blocks.
    fn blocks(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.checksum.update(bytes);
        self.length = self.length.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        bytes.chunks(BLOCK).flat_map(|chunk| block(chunk, false)).collect()
    }

    /// The last, empty block, and the checks.
    fn end(self) -> Vec<u8> {
        let checks = [self.checksum.finalize().to_le_bytes(), self.length.to_le_bytes()];
        [block(&[], true), checks.concat()].concat()
    }
}

fn block(bytes: &[u8], last: bool) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&[u8::from(last)][..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes].concat()
}

/// The frames of a body as those of a gzip file. A body that breaks off does so here too.
pub fn frames<E: Send + 'static>(
    plain: impl Stream<Item = Result<Frame<Bytes>, E>> + Send + 'static,
) -> impl Stream<Item = Result<Frame<Bytes>, E>> + Send {
    let member = Member { checksum: crc32fast::Hasher::new(), length: 0 };
    let head = Frame::data(Bytes::from_static(&HEAD));
    let rest = futures_util::stream::unfold(Some((Box::pin(plain), member)), |state| async {
        let (mut plain, mut member) = state?;
        match plain.next().await {
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default();
                let blocks = Bytes::from(member.blocks(&bytes));
                Some((Ok(Frame::data(blocks)), Some((plain, member))))
            }
            Some(Err(cut)) => Some((Err(cut), None)),
            None => Some((Ok(Frame::data(member.end().into())), None)),
        }
    });
    futures_util::stream::iter([Ok(head)]).chain(rest)
}
