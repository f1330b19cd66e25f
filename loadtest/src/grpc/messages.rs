//! The messages in the body of a gRPC call: each has a byte that says whether it is compressed, four with its length, and its bytes
//! (gRPC over HTTP/2, "Length-Prefixed-Message").

use bytes::{BufMut, Bytes, BytesMut};

/// Finds the messages in a body, wherever it was cut.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that are there.
    filled: usize,
    /// Bytes of the message that are not.
    left: u32,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'d> {
    /// It begins, and has so many bytes.
    Begin(u32),
    /// These are the next of them.
    Data(&'d [u8]),
    /// It is whole.
    End,
}

/// What is wrong with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a compressed message, and no compression was agreed on")]
    Compressed,
    #[error(
        "a message begins with byte {0:#04x}, which says neither that it is compressed nor that it is not"
    )]
    Flag(u8),
}

impl Messages {
    /// Takes the next bytes of the body, and gives away each part of a message in them.
    ///
    /// # Errors
    /// If they are no messages. What comes after that means nothing.
    pub(crate) fn feed(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(Part<'_>),
    ) -> Result<(), MessageError> {
        while !input.is_empty() {
            if self.filled < PREFIX_BYTES {
                let count = input.len().min(PREFIX_BYTES - self.filled);
                self.prefix[self.filled..self.filled + count].copy_from_slice(&input[..count]);
                self.filled += count;
                input = &input[count..];
                match self.prefix[0] {
                    0 => {}
                    1 => return Err(MessageError::Compressed),
                    flag => return Err(MessageError::Flag(flag)),
                }
                if self.filled < PREFIX_BYTES {
                    return Ok(());
                }
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length);
                each(Part::Begin(self.left));
            } else {
                let (data, rest) = input.split_at(input.len().min(self.left as usize));
                self.left -= data.len() as u32;
                input = rest;
                each(Part::Data(data));
            }
            if self.left == 0 {
                self.filled = 0;
                each(Part::End);
            }
        }
        Ok(())
    }

    /// Whether the body may end here.
    pub(crate) fn is_between(&self) -> bool {
        self.filled == 0
    }
}

/// What stands before a message of so many bytes.
pub(crate) fn prefix(length: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// So many messages with these bytes, one after the other.
pub(crate) fn batch(message: &[u8], count: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity((PREFIX_BYTES + message.len()) * count);
    for _ in 0..count {
        bytes.put_slice(&prefix(message.len() as u32));
        bytes.put_slice(message);
    }
    bytes.freeze()
}

pub(crate) const PREFIX_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a body, the same for every way to cut it; whether it may end there.
    fn messages(body: &[u8]) -> Result<(Vec<Vec<u8>>, bool), MessageError> {
        let cut_at = |cuts: &[usize]| {
            let (mut reader, mut found, mut current) = (Messages::default(), Vec::new(), None);
            let mut begin = 0;
            for &end in cuts.iter().chain([&body.len()]) {
                reader.feed(&body[begin..end], |part| match part {
                    Part::Begin(length) => {
                        assert!(current.replace((length, Vec::new())).is_none(), "one at a time");
                    }
                    Part::Data(data) => current.as_mut().unwrap().1.extend_from_slice(data),
                    Part::End => {
                        let (length, data) = current.take().unwrap();
                        assert_eq!(length as usize, data.len());
                        found.push(data);
                    }
                })?;
                begin = end;
            }
            assert_eq!(reader.left == 0 && reader.filled == 0, reader.is_between());
            Ok((found, reader.is_between()))
        };
        let at_once = cut_at(&[]);
        for first in 0..=body.len() {
            for second in first..=body.len() {
                assert_eq!(cut_at(&[first, second]), at_once, "cut at {first} and {second}");
            }
        }
        let every_byte: Vec<_> = (0..body.len()).collect();
        assert_eq!(cut_at(&every_byte), at_once);
        at_once
    }

    #[test]
    fn messages_are_found_however_the_body_is_cut() {
        let many = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        for (body, wanted, whole) in [
            (&b""[..], many(&[]), true),
            (b"\0\0\0\0\0", many(&[""]), true),
            (b"\0\0\0\0\x05hello", many(&["hello"]), true),
            (b"\0\0\0\0\x01a\0\0\0\0\0\0\0\0\0\x02bc", many(&["a", "", "bc"]), true),
            (b"\0", many(&[]), false),
            (b"\0\0\0\0", many(&[]), false),
            (b"\0\0\0\0\x05hell", many(&[]), false),
            (b"\0\0\0\0\x01a\0\0\x01\0\0b", many(&["a"]), false),
        ] {
            assert_eq!(messages(body), Ok((wanted, whole)), "{body:?}");
        }
        assert_eq!(messages(b"\x01\0\0\0\x01a"), Err(MessageError::Compressed));
        assert_eq!(messages(b"\0\0\0\0\x01aHTTP"), Err(MessageError::Flag(b'H')));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(&batch(b"hello", 1)[..], b"\0\0\0\0\x05hello");
        assert_eq!(&batch(b"", 2)[..], [0; 10]);
        assert_eq!(prefix(0x0102_0304), [0, 1, 2, 3, 4]);
    }
}
