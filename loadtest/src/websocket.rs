//! WebSockets (RFC 6455).

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// `sec-websocket-accept`: twenty bytes in base64.
pub(crate) type AcceptKey = [u8; 28];

/// What proves that a server has understood a request with this key (RFC 6455 §4.2.2).
pub(crate) fn accept_key(key: &[u8]) -> AcceptKey {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(context.finish(), &mut accept);
    debug_assert_eq!(written, Ok(accept.len()));
    accept
}

/// How large messages may be, and the room for them: little, since there may be many connections.
pub(crate) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        // Each message goes out at once.
        .write_buffer_size(0)
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .max_message_size(Some(MESSAGE_BYTES_MAX))
}

pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
