//! WebSockets that send back what comes.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::LINGER;
use crate::websocket::limits;

/// Sends back each message, until the other side closes or breaks the rules.
pub(super) async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits())).await;
    // Pings and the closing are answered by the reading itself.
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
    // The server is the first to end the stream (RFC 6455 §7.1.1), and waits for the other end. If it cannot, it has ended.
    let stream = socket.get_mut();
    let _ = stream.shutdown().await;
    let rest = async { while matches!(stream.read(&mut [0; 256]).await, Ok(1..)) {} };
    let _ = timeout(LINGER, rest).await;
}
