//! Bytes of a body that wait for their turn to be sent, in a buffer of the worker's.

use std::{mem, rc::Rc};

use bytes::Buf;

use crate::io::{BufferPool, SMALL};

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
        let mut copy = match bytes.len() {
            0 => Vec::new(),
            1..=SMALL => buffers.small(),
            _ => buffers.large(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_gives_its_buffer_back() {
        let buffers = Rc::new(BufferPool::default());
        let mut piece = Piece::copy(b"hello", &buffers);
        let address = piece.chunk().as_ptr();
        piece.advance(2);
        assert_eq!((piece.chunk(), piece.remaining()), (&b"llo"[..], 3));
        drop(piece);
        let again = buffers.small();
        assert_eq!(again.as_ptr(), address);
    }
}
