//! Bytes of a body that wait for their turn to be sent, in a buffer of the worker's.

use std::{mem, rc::Rc};

use bytes::Buf;

use crate::io::{BufferPool, LARGE, SMALL};

/// A part of a body.
pub(crate) struct Piece {
    bytes: Vec<u8>,
    taken: usize,
    buffers: Rc<BufferPool>,
}

impl Piece {
    /// All of `bytes`.
    pub(crate) fn whole(bytes: Vec<u8>, buffers: &Rc<BufferPool>) -> Piece {
        Piece { bytes, taken: 0, buffers: buffers.clone() }
    }

    /// A copy of `bytes`.
    pub(crate) fn copy(bytes: &[u8], buffers: &Rc<BufferPool>) -> Piece {
        // Pieces of many streams wait at once, for clients that may take their time: none has much more room than it needs.
        let mut copy = match bytes.len() {
            TINY..=SMALL => buffers.small(),
            HALF.. => buffers.large(),
            length => Vec::with_capacity(length),
        };
        copy.extend_from_slice(bytes);
        Piece::whole(copy, buffers)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn advance(&mut self, n: usize) {
        assert!(n <= self.remaining(), "only what is there can be used up");
        self.taken += n;
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.buffers.put(mem::take(&mut self.bytes));
    }
}

/// Fewer bytes than this are too few for a small buffer of the worker's.
const TINY: usize = 1024;
/// And fewer than this, for a large one.
const HALF: usize = LARGE / 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_gives_its_buffer_back() {
        let buffers = Rc::new(BufferPool::default());
        let mut piece = Piece::copy(&[b'x'; TINY], &buffers);
        let address = piece.chunk().as_ptr();
        piece.advance(2);
        assert_eq!((piece.chunk(), piece.remaining()), (&[b'x'; TINY - 2][..], TINY - 2));
        drop(piece);
        let again = buffers.small();
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn a_piece_takes_not_much_more_than_it_needs() {
        let buffers = Rc::new(BufferPool::default());
        for length in [0, 1, 100, TINY, SMALL, SMALL + 1, 16 * 1024, HALF - 1, HALF, LARGE] {
            let room = Piece::copy(&vec![b'x'; length], &buffers).bytes.capacity();
            assert!(room >= length && room <= (2 * length).max(SMALL), "{room} for {length}");
            assert!(length >= TINY || room == length, "{room} for {length}");
        }
    }
}
