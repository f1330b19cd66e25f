//! Names a request: the number of its connection and its own within that.

/// The text of a request id, without an allocation.
#[derive(Clone, Copy)]
pub(crate) struct RequestId {
    text: [u8; LENGTH_MAX],
    length: usize,
}

impl RequestId {
    /// `CONNECTION-N`: the connection in 16 hexadecimal digits as in the log, the request from 1 in as many as it needs.
    pub(crate) fn new(connection: u64, request: u64) -> RequestId {
        let mut id = RequestId { text: [0; LENGTH_MAX], length: 0 };
        id.push(connection, 16);
        id.text[id.length] = b'-';
        id.length += 1;
        id.push(request, (u64::BITS - request.max(1).leading_zeros()).div_ceil(4) as usize);
        id
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length]).expect("hexadecimal digits are ASCII")
    }

    fn push(&mut self, number: u64, digits: usize) {
        for digit in (0..digits).rev() {
            self.text[self.length] = b"0123456789abcdef"[(number >> (4 * digit) & 0xf) as usize];
            self.length += 1;
        }
    }
}

/// Two numbers of 16 digits and a hyphen.
const LENGTH_MAX: usize = 16 + 1 + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_as_short_as_they_can_be() {
        assert_eq!(RequestId::new(0x2a, 1).as_str(), "000000000000002a-1");
        assert_eq!(RequestId::new(1, 0x10).as_str(), "0000000000000001-10");
        assert_eq!(RequestId::new(u64::MAX, u64::MAX).as_str(), "ffffffffffffffff-ffffffffffffffff");
    }
}
