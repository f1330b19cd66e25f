//! The question and the answer of `grpc.health.v1.Health/Check`, as bytes.
//!
//! Two messages of one field each, so they are read and written by hand:
//! `HealthCheckRequest { string service = 1; }` and `HealthCheckResponse { ServingStatus status = 1; }`.

/// What a server says of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// It takes calls.
    Serving,
    /// It does not: the name of its status.
    Not(&'static str),
}

/// An answer that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not a HealthCheckResponse")]
pub(super) struct Malformed;

/// The path of the method.
pub(super) const METHOD: &str = "/grpc.health.v1.Health/Check";

/// The question about `service`, framed as gRPC frames a message. The name has at most 127 bytes (config), so its length is one
/// byte.
pub(super) fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // The default of a field is not written.
    if let Some(length) = u8::try_from(service.len()).ok().filter(|length| *length > 0) {
        message.extend_from_slice(&[FIELD_1_BYTES, length]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![UNCOMPRESSED];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// Reads the whole body of an answer.
///
/// # Errors
/// If it is not exactly one message that is not compressed, or that is no protobuf.
pub(super) fn answer(body: &[u8]) -> Result<Serving, Malformed> {
    let (prefix, mut message) = body.split_first_chunk::<5>().ok_or(Malformed)?;
    let [flag, length @ ..] = *prefix;
    if flag != UNCOMPRESSED || u32::from_be_bytes(length) as usize != message.len() {
        return Err(Malformed);
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (0, _) => return Err(Malformed),
            // Of several the last one counts.
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => skip(&mut message, 8)?,
            (_, 2) => {
                let length = varint(&mut message)?;
                skip(&mut message, length)?;
            }
            (_, 5) => skip(&mut message, 4)?,
            _ => return Err(Malformed),
        }
    }
    Ok(match status {
        1 => Serving::Serving,
        2 => Serving::Not("NOT_SERVING"),
        3 => Serving::Not("SERVICE_UNKNOWN"),
        _ => Serving::Not("UNKNOWN"),
    })
}

/// A number in groups of seven bits, the lowest first.
fn varint(message: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or(Malformed)?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn skip(message: &mut &[u8], length: u64) -> Result<(), Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    *message = message.get(length..).ok_or(Malformed)?;
    Ok(())
}

const UNCOMPRESSED: u8 = 0;
/// Number 1, with a length and bytes.
const FIELD_1_BYTES: u8 = 1 << 3 | 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut framed = vec![0];
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(message);
        framed
    }

    #[test]
    fn questions() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), [&[0, 0, 0, 0, 5, 0x0a, 3][..], b"a.B"].concat());
        let longest = "s".repeat(127);
        assert_eq!(question(&longest)[..7], [0, 0, 0, 0, 129, 0x0a, 127]);
    }

    #[test]
    fn answers() {
        let table: [(&[u8], Serving); 9] = [
            (&[], Serving::Not("UNKNOWN")),
            (&[8, 0], Serving::Not("UNKNOWN")),
            (&[8, 1], Serving::Serving),
            (&[8, 2], Serving::Not("NOT_SERVING")),
            (&[8, 3], Serving::Not("SERVICE_UNKNOWN")),
            (&[8, 0x81, 1], Serving::Not("UNKNOWN")),
            (&[8, 2, 8, 1], Serving::Serving),
            // Fields that nobody has defined yet, of every type.
            (&[16, 5, 8, 1, 26, 2, 8, 2, 33, 1, 2, 3, 4, 5, 6, 7, 8, 45, 1, 2, 3, 4], Serving::Serving),
            (&[8, 0x81, 0x80, 0], Serving::Serving),
        ];
        for (message, serving) in table {
            assert_eq!(answer(&framed(message)), Ok(serving), "{message:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let good = framed(&[8, 1]);
        for length in 0..good.len() {
            assert_eq!(answer(&good[..length]), Err(Malformed), "cut at {length}");
        }
        assert_eq!(answer(&[good.clone(), vec![0]].concat()), Err(Malformed), "surplus");
        assert_eq!(answer(&[1, 0, 0, 0, 2, 8, 1]), Err(Malformed), "compressed");
        let messages: [&[u8]; 8] = [
            &[8],
            &[8, 0x80],
            &[0, 1],
            &[11],
            &[26, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[26, 3, 1],
            &[33, 1],
            &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ];
        for message in messages {
            assert_eq!(answer(&framed(message)), Err(Malformed), "{message:?}");
        }
    }

    #[test]
    fn of_all_messages_of_two_bytes_one_says_serving() {
        let serving = |message: &[u8; 2]| answer(&framed(message)) == Ok(Serving::Serving);
        let all = (0..=u16::MAX).map(u16::to_be_bytes).filter(serving);
        assert_eq!(all.collect::<Vec<_>>(), [[8, 1]]);
    }
}
