use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncBufReadExt;

use super::*;
use crate::admin_socket::{Client, ClientError};

/// Answers with what it was asked, and the size of what came with it.
#[derive(Default)]
struct Echo {
    performed: AtomicUsize,
}

impl Operations for Echo {
    async fn perform(&self, caller: Caller, request: Request, attachment: Vec<u8>) -> Answer {
        self.performed.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::TrustDiff => Err("no".to_owned()),
            Request::RevokeList => Ok(Value::String("x".repeat(ANSWER_BYTES_MAX))),
            _ => Ok(serde_json::json!([request.name(), caller.uid, attachment.len()])),
        }
    }
}

/// A server for the length of a test.
struct Running {
    path: PathBuf,
    operations: Arc<Echo>,
    _dir: tempfile::TempDir,
    server: tokio::task::JoinHandle<io::Result<Infallible>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn start(patience: Patience, our_uid: u32) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let socket = AdminSocket::bind(&path).unwrap();
    let operations = Arc::new(Echo::default());
    let served = operations.clone();
    let server = tokio::spawn(async move {
        let listener = UnixListener::from_std(socket.listener()?)?;
        accept(listener, served, patience, our_uid).await
    });
    Running { path, operations, _dir: dir, server }
}

const PATIENT: Patience = Patience { request: REQUEST_TIMEOUT, answer: ANSWER_TIMEOUT };

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Sends `text` and returns the lines of the answer until the server closes, or until `lines` came.
async fn say(path: &PathBuf, text: &[u8], lines: usize) -> Vec<Reply> {
    let mut stream = BufStream::new(UnixStream::connect(path).await.unwrap());
    // The server may close before it has read all.
    let _ = stream.write_all(text).await;
    let _ = stream.flush().await;
    let mut replies = Vec::new();
    let mut line = String::new();
    while replies.len() < lines && stream.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
        replies.push(serde_json::from_str(&line).unwrap());
        line.clear();
    }
    replies
}

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(error) => error,
        Reply::Ok(value) => panic!("{value}"),
    }
}

#[tokio::test]
async fn requests_are_answered_in_order() {
    let running = start(PATIENT, our_uid());
    let text = b"{\"request\":\"keys_show\"}\n{\"request\":\"trust_diff\"}\n\
        {\"request\":{\"trust_preview\":{\"file\":\"a\"}},\"attachment_bytes\":3}\n1\n2{\"request\":\"keys_show\"}\n";
    let replies = say(&running.path, text, 4).await;
    let Reply::Ok(first) = &replies[0] else { panic!("{replies:?}") };
    assert_eq!(*first, serde_json::json!(["keys show", our_uid(), 0]));
    assert_eq!(error(&replies[1]), "no");
    let Reply::Ok(third) = &replies[2] else { panic!("{replies:?}") };
    assert_eq!(third[2], 3, "the attachment may hold line ends");
    assert!(matches!(&replies[3], Reply::Ok(_)));
}

#[tokio::test]
async fn what_is_not_a_request_ends_the_conversation() {
    let running = start(PATIENT, our_uid());
    for bad in ["GET / HTTP/1.1", "{}", "null", "{\"request\":\"keys_forget\"}", "\u{0}"] {
        let text = format!("{bad}\n{{\"request\":\"keys_show\"}}\n");
        let replies = say(&running.path, text.as_bytes(), 2).await;
        assert_eq!(replies.len(), 1, "{bad}: {replies:?}");
        assert!(error(&replies[0]).contains("not understood"), "{replies:?}");
    }
    assert_eq!(running.operations.performed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn lines_and_attachments_have_limits() {
    let running = start(PATIENT, our_uid());
    let line = |length: usize| {
        let mut line = b"{\"request\":\"keys_show\"}".to_vec();
        line.resize(length, b' ');
        line.push(b'\n');
        line
    };
    let replies = say(&running.path, &line(REQUEST_BYTES_MAX), 1).await;
    assert!(matches!(&replies[..], [Reply::Ok(_)]), "at the limit: {replies:?}");
    let replies = say(&running.path, &line(REQUEST_BYTES_MAX + 1), 2).await;
    assert!(error(&replies[0]).contains("more than"), "{replies:?}");
    let envelope = |bytes: usize| format!("{{\"request\":\"keys_show\",\"attachment_bytes\":{bytes}}}\n");
    let replies = say(&running.path, envelope(ATTACHMENT_BYTES_MAX + 1).as_bytes(), 2).await;
    assert!(error(&replies[0]).contains("more than"), "{replies:?}");
    let replies = say(&running.path, b"{\"request\":\"revoke_list\"}\n", 1).await;
    assert!(error(&replies[0]).contains("the answer has more than"), "{replies:?}");
}

#[tokio::test]
async fn a_file_that_was_cut_is_not_looked_at() {
    let running = start(PATIENT, our_uid());
    let mut stream = UnixStream::connect(&running.path).await.unwrap();
    stream.write_all(b"{\"request\":\"keys_show\",\"attachment_bytes\":3}\n12").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    assert_eq!(running.operations.performed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn other_users_are_not_heard() {
    // As if we were somebody else: the one who connects is then neither us nor root, unless the tests run as root.
    assert!(may_ask(1000, 1000) && may_ask(0, 1000));
    assert!(!may_ask(1001, 1000) && !may_ask(1000, 0));
    if our_uid() == ROOT {
        return;
    }
    let running = start(PATIENT, our_uid() + 1);
    assert!(say(&running.path, b"{\"request\":\"keys_show\"}\n", 1).await.is_empty());
    assert_eq!(running.operations.performed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn silent_clients_are_let_go() {
    let impatient = Patience { request: Duration::from_millis(50), answer: Duration::from_millis(50) };
    let running = start(impatient, our_uid());
    // As many as there may be at once: whoever comes next waits until they are gone, and no longer.
    let mut silent = Vec::new();
    for _ in 0..CLIENTS_MAX {
        silent.push(UnixStream::connect(&running.path).await.unwrap());
    }
    let replies = say(&running.path, b"{\"request\":\"keys_show\"}\n", 1).await;
    assert!(matches!(&replies[..], [Reply::Ok(_)]), "{replies:?}");
    // Nor do those stay that begin and do not go on.
    let replies = say(&running.path, b"{\"request\":\"keys_sh", 1).await;
    assert!(error(&replies[0]).contains("in time"), "{replies:?}");
    let replies = say(&running.path, b"{\"request\":\"keys_show\",\"attachment_bytes\":3}\n12", 1).await;
    assert!(error(&replies[0]).contains("in time"), "{replies:?}");
}

#[tokio::test]
async fn the_client_asks_and_understands() {
    let running = start(PATIENT, our_uid());
    let path = running.path.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&path).unwrap();
        let file = Request::TrustPreview { file: "a.crl".to_owned(), bundle: None };
        let (name, uid, length): (String, u32, usize) = client.ask(file, &vec![b'\n'; 1 << 20]).unwrap();
        assert_eq!((name.as_str(), uid, length), ("trust preview", our_uid(), 1 << 20));
        let no = client.ask::<Value>(Request::TrustDiff, &[]).unwrap_err();
        assert!(matches!(&no, ClientError::Refused(reason) if reason == "no"), "{no}");
        let odd = client.ask::<u8>(Request::KeysShow, &[]).unwrap_err();
        assert!(matches!(odd, ClientError::NotUnderstood(_)), "{odd}");
    });
    asking.await.unwrap();
}

#[test]
fn a_client_says_why_nobody_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let missing = Client::connect(&path).unwrap_err();
    assert!(matches!(missing, ClientError::NotRunning { .. }), "{missing}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let dead = Client::connect(&path).unwrap_err();
    assert!(matches!(dead, ClientError::NotRunning { .. }), "{dead}");
}
