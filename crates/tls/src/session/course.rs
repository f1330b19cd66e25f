//! Which course a handshake takes: resumed or full, TLS 1.3 or 1.2.
//!
//! Hides how a ClientHello is processed a second time. What must stay true: nothing that answers a ClientHello is
//! handed out before the course is settled, a handshake that resumes has been judged, and a connection that
//! started over cannot resume.

use std::rc::Rc;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{Error, HandshakeKind, PeerIncompatible, ServerConfig};

use super::{Phase, ServerSession};
use crate::failure::{HandshakeFailure, HandshakeReason, fatal_alert};
use crate::hello::is_in_one_record;
use crate::host::WorkerHost;
use crate::records::encode;
use crate::resumption::{DeclineReason, Offer};

/// What is needed until the handshake is complete.
pub(super) struct Handshake {
    pub(super) host: Rc<WorkerHost>,
    pub(super) course: Course,
}

/// How a handshake may still turn.
pub(super) enum Course {
    /// It runs by the host's configuration for TLS 1.3 and has not answered. It may resume, or start over.
    Undecided,
    /// The same, but this ClientHello was answered with a HelloRetryRequest. It is the next one that may resume.
    Retried(Box<[u8]>),
    /// Not any more.
    Settled,
}

/// What to do with what rustls has made of the input.
pub(super) enum Settlement {
    /// Use it.
    Proceed,
    /// Forget it, and process the same input again.
    StartOver,
}

impl ServerSession {
    /// Looks at what rustls made of `input`: an error or, once there was a whole ClientHello, a course.
    ///
    /// # Errors
    ///
    /// The failure, with the alert to send, if the course is not acceptable and there is no other.
    pub(super) fn settle_course(
        &mut self,
        error: Option<&Error>,
        input: &[u8],
    ) -> Result<Settlement, Box<HandshakeFailure>> {
        let Phase::Handshaking(handshake) = &mut self.phase else { return Ok(Settlement::Proceed) };
        let offer = handshake.host.offers.end();
        let course = &mut handshake.course;
        if let Some(error) = error {
            return match (&course, &handshake.host.tls12) {
                (Course::Undecided, Some(tls12)) if lacks_tls13(error) && is_in_one_record(input) => {
                    *self.connection = connect(tls12)?;
                    *course = Course::Settled;
                    Ok(Settlement::StartOver)
                }
                _ => Ok(Settlement::Proceed),
            };
        }
        let kind = self.connection.handshake_kind();
        if kind != Some(HandshakeKind::Resumed) {
            match offer {
                Offer::Unknown => self.declined = Some(DeclineReason::Unknown),
                Offer::Session { .. } => self.declined = Some(DeclineReason::Incompatible),
                Offer::Nothing => {}
            }
        }
        match (kind, &course) {
            (Some(HandshakeKind::FullWithHelloRetryRequest), Course::Undecided) => {
                *course = Course::Retried(first_record(input).into());
            }
            (Some(HandshakeKind::Full), _) => *course = Course::Settled,
            (Some(HandshakeKind::Resumed), Course::Undecided | Course::Retried(_)) => {
                if let Err(reason) = self.judge_resumed(offer) {
                    return self.decline(reason, input);
                }
            }
            _ => {}
        }
        Ok(Settlement::Proceed)
    }

    /// Judges the session that rustls has resumed, and its chain, as if both were new.
    fn judge_resumed(&mut self, offer: Offer) -> Result<(), DeclineReason> {
        let Phase::Handshaking(Handshake { host, course }) = &mut self.phase else { return Ok(()) };
        let refused = |failure: Box<HandshakeFailure>| DeclineReason::Refused(failure.reason);
        let Offer::Session { auth_time } = offer else { return Err(DeclineReason::NoAuthTime) };
        if auth_time > host.now().map_err(refused)?.saturating_add(CLOCK_SKEW_SECONDS_MAX) {
            return Err(DeclineReason::NoAuthTime);
        }
        self.admitted = host.readmit(self.connection.peer_certificates(), auth_time).map_err(refused)?;
        self.auth_time = auth_time;
        self.resumed = host.resumed_by;
        *course = Course::Settled;
        Ok(())
    }

    /// Turns to a full handshake. After a HelloRetryRequest both ClientHellos are processed again: the answer to
    /// the first depends on nothing but itself, so the client has it already.
    fn decline(&mut self, reason: DeclineReason, input: &[u8]) -> Result<Settlement, Box<HandshakeFailure>> {
        self.declined = Some(reason);
        let Phase::Handshaking(Handshake { host, course }) = &mut self.phase else {
            return Ok(Settlement::Proceed);
        };
        // With it goes what it would have sent.
        *self.connection = connect(&host.full)?;
        // A client may announce its second flight with a ChangeCipherSpec (RFC 8446 §D.4).
        let hello = if let [20, _, _, 0, 1, 1, hello @ ..] = input { hello } else { input };
        if !is_in_one_record(hello) {
            return Err(cannot_start_over(reason));
        }
        if let Course::Retried(mut first) = std::mem::replace(course, Course::Settled) {
            answer_again(&mut self.connection, &mut first)
                .map_err(|error| Box::new(HandshakeFailure::from_rustls(&error)))?;
        }
        Ok(Settlement::StartOver)
    }
}

/// A connection that has seen nothing.
pub(super) fn connect(
    config: &Arc<ServerConfig>,
) -> Result<UnbufferedServerConnection, Box<HandshakeFailure>> {
    UnbufferedServerConnection::new(config.clone())
        .map_err(|error| Box::new(HandshakeFailure::from_rustls(&error)))
}

/// True if TLS 1.2 is all that the client may be served with.
fn lacks_tls13(error: &Error) -> bool {
    use PeerIncompatible::{SupportedVersionsExtensionRequired, Tls12NotOfferedOrEnabled};
    matches!(error, Error::PeerIncompatible(SupportedVersionsExtensionRequired | Tls12NotOfferedOrEnabled))
}

/// Processes a ClientHello whose answer has been sent.
fn answer_again(connection: &mut UnbufferedServerConnection, hello: &mut [u8]) -> Result<(), Error> {
    let (mut consumed, mut sent_before) = (0, Vec::new());
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process_tls_records(&mut hello[consumed..]);
        match state? {
            ConnectionState::EncodeTlsData(mut data) => encode(&mut data, &mut sent_before)?,
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::BlockedHandshake => return Ok(()),
            _ => return Err(Error::General("the ClientHello has another meaning now".to_owned())),
        }
        consumed += discard;
    }
}

fn cannot_start_over(reason: DeclineReason) -> Box<HandshakeFailure> {
    let message = format!(
        "the session cannot be resumed ({}), and no full handshake instead: \
         the ClientHello came in several records",
        reason.as_str()
    );
    let reason = match reason {
        DeclineReason::Refused(reason) => reason,
        _ => HandshakeReason::Malformed,
    };
    Box::new(HandshakeFailure {
        alert: fatal_alert(ALERT_ACCESS_DENIED),
        ..HandshakeFailure::new(reason, message)
    })
}

fn first_record(bytes: &[u8]) -> &[u8] {
    let length = match bytes {
        [_, _, _, high, low, ..] => RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    bytes.get(..length).unwrap_or(bytes)
}

/// How far the clock of the node that a session comes from may be ahead of ours.
const CLOCK_SKEW_SECONDS_MAX: i64 = 5 * 60;
/// RFC 8446 §5.1.
const RECORD_HEADER_BYTES: usize = 5;
/// RFC 8446 §6.2: `access_denied`.
const ALERT_ACCESS_DENIED: u8 = 49;
