//! What both ends of a connection do with rustls' unbuffered interface: records in, plaintext out, and back.

use rustls::Error;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};

/// One end of a connection.
pub(crate) trait Records {
    /// What rustls tells the ends apart by.
    type Data;

    /// Has rustls look at what has arrived.
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Something is queued.
    fn has_output(&self) -> bool;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

/// What one look at the input has led to.
pub(crate) enum Step {
    /// There may be more to do.
    Continue,
    /// Nothing, until more arrives.
    Blocked,
    /// The peer sends no more.
    PeerClosed,
}

/// Why nothing could be sent.
pub(crate) enum WriteError {
    /// The handshake is not complete, or the connection is closed.
    NotOpen,
    /// The keys have protected as many records as they may.
    Exhausted,
    /// rustls must not be called again.
    Protocol(Error),
}

/// Looks at `incoming` once; adds to `discard` what is used up of it.
pub(crate) fn step(
    connection: &mut impl Records,
    incoming: &mut [u8],
    discard: &mut usize,
    plain: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> Result<Step, Error> {
    let UnbufferedStatus { discard: used, state, .. } = connection.process(incoming);
    *discard += used;
    match state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                *discard += record.discard;
                plain.extend_from_slice(record.payload);
            }
            Ok(Step::Continue)
        }
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, outgoing).map(|()| Step::Continue),
        ConnectionState::TransmitTlsData(data) => {
            // The caller sends `outgoing`; nothing depends on when.
            data.done();
            Ok(Step::Continue)
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Step::Blocked),
        ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Step::PeerClosed),
        // Early data, which is neither accepted nor sent, or a state of a later rustls.
        _ => Err(Error::General("unexpected state of the TLS connection".to_owned())),
    }
}

/// Encrypts `plain`, which is not empty, into as few records as possible.
pub(crate) fn encrypt(
    connection: &mut impl Records,
    plain: &[u8],
    outgoing: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let size = plain.len() + plain.len().div_ceil(PLAINTEXT_RECORD_BYTES_MAX) * RECORD_OVERHEAD_BYTES;
    write(connection, size, outgoing, |traffic, buffer| traffic.encrypt(plain, buffer))
}

/// Says that nothing more will be sent.
pub(crate) fn close_notify(connection: &mut impl Records, outgoing: &mut Vec<u8>) -> Result<(), WriteError> {
    write(connection, ALERT_RECORD_BYTES, outgoing, |traffic, buffer| traffic.queue_close_notify(buffer))
}

/// Moves what rustls has queued, the alert last, to `outgoing`.
///
/// Asks only while something is queued: rustls would otherwise look at the offending input a second time.
pub(crate) fn flush_alert(connection: &mut impl Records, rest: &mut [u8], outgoing: &mut Vec<u8>) {
    while connection.has_output() {
        match connection.process(rest).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if encode(&mut data, outgoing).is_err() {
                    return;
                }
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
            _ => return,
        }
    }
}

/// Appends the record that rustls has ready, growing `outgoing` by exactly its size.
pub(crate) fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    let mut result = data.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = result {
        outgoing.resize(start + required_size, 0);
        result = data.encode(&mut outgoing[start..]);
    }
    result.map(|_| ()).map_err(|error| Error::General(error.to_string()))
}

/// Whether input that is left over after the handshake begins with a whole record, which is then part of a message that is not
/// complete: output would be tied to the peer's input.
pub(crate) fn holds_fragment(rest: &[u8]) -> bool {
    match *rest {
        [_, _, _, high, low, ref body @ ..] => body.len() >= usize::from(u16::from_be_bytes([high, low])),
        _ => false,
    }
}

/// Lets `seal` write into `size` fresh bytes at the end of `outgoing`, or into as many as it then asks for.
fn write<R: Records>(
    connection: &mut R,
    size: usize,
    outgoing: &mut Vec<u8>,
    mut seal: impl FnMut(&mut WriteTraffic<'_, R::Data>, &mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), WriteError> {
    loop {
        // Empty input is sound: a session refuses to go on while rustls holds a part of a message.
        match connection.process(&mut []).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let start = outgoing.len();
                outgoing.resize(start + size, 0);
                let mut written = seal(&mut traffic, &mut outgoing[start..]);
                // More is needed when a KeyUpdate has to go first.
                if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) = written
                {
                    outgoing.resize(start + required_size, 0);
                    written = seal(&mut traffic, &mut outgoing[start..]);
                }
                outgoing.truncate(start + *written.as_ref().unwrap_or(&0));
                return written.map(drop).map_err(|_| WriteError::Exhausted);
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, outgoing).map_err(WriteError::Protocol)?;
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(_) => return Err(WriteError::NotOpen),
            Err(error) => return Err(WriteError::Protocol(error)),
        }
    }
}

/// Largest plaintext of one record (RFC 8446 §5.1).
pub const PLAINTEXT_RECORD_BYTES_MAX: usize = 16 * 1024;
/// What each record adds to its plaintext in TLS 1.3: header, content type, authentication tag.
pub const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16;
/// Size at which unconsumed input of a handshake is refused. The largest message that rustls takes (64 KiB)
/// fits below it with the overhead of its records; one cut into many small records may not. A caller's buffer
/// of this size never fills up without an error.
pub const HANDSHAKE_BYTES_MAX: usize = 68 * 1024;
/// Size of a protected alert record.
pub(crate) const ALERT_RECORD_BYTES: usize = 2 + RECORD_OVERHEAD_BYTES;
