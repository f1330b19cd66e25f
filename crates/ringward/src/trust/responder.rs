//! Asking OCSP responders over HTTP (RFC 6960 appendix A).
//!
//! Hides how a request becomes a GET or a POST. What comes back is bytes that nobody has verified.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use ringward_tls::ocsp::OCSP_RESPONSE_BYTES_MAX;

use super::fetch::reach::Reach;
use super::fetch::url::Url;
use super::fetch::{Ask, FetchError, FetchLimits, Fetched, Fetcher, Validators};

/// Where to ask.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    /// Its URL.
    pub(crate) url: Url,
    /// Where that came from.
    pub(crate) reach: Reach,
}

impl Responder {
    /// Asks by POST, which every responder takes and no cache on the way answers.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn post(&self, fetcher: &Fetcher, request: Vec<u8>) -> Result<Bytes, FetchError> {
        let body = Bytes::from(request);
        let ask = Ask::Post { content_type: REQUEST_TYPE, body: &body };
        answer(fetcher.fetch(&self.url, &self.reach, ask, BYTES_MAX).await)
    }

    /// Asks by GET if the request is short, as caches of a CA want it, and by POST if the server does not take that.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn get_or_post(&self, fetcher: &Fetcher, request: Vec<u8>) -> Result<Bytes, FetchError> {
        let Some(url) = self.get_url(&request) else { return self.post(fetcher, request).await };
        let nothing = Validators::default();
        match answer(fetcher.fetch(&url, &self.reach, Ask::Get(&nothing), BYTES_MAX).await) {
            Err(error) if error.is_dislike_of_method() => self.post(fetcher, request).await,
            result => result,
        }
    }

    /// RFC 6960 appendix A.1: the URL-encoding of the base64 of the request, below 255 bytes.
    fn get_url(&self, request: &[u8]) -> Option<Url> {
        let text = STANDARD.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        (text.len() < GET_BYTES_MAX).then(|| self.url.join(&text).ok()).flatten()
    }
}

fn answer(fetched: Result<Fetched, FetchError>) -> Result<Bytes, FetchError> {
    match fetched? {
        Fetched::Fresh { body, .. } => Ok(body),
        // It is an answer only to who asked whether something had changed.
        Fetched::NotModified => Ok(Bytes::new()),
    }
}

/// For connections that wait.
pub(crate) const OCSP_FETCH: FetchLimits = FetchLimits {
    connect_timeout: Duration::from_secs(3),
    idle_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(10),
    requests_max: 64,
    requests_per_server_max: 16,
};
const REQUEST_TYPE: &str = "application/ocsp-request";
const GET_BYTES_MAX: usize = 255;
/// One more would be refused by who reads it.
const BYTES_MAX: u64 = OCSP_RESPONSE_BYTES_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::{Server, ok, reply};

    fn responder(server: &Server) -> Responder {
        Responder { url: Url::parse(&server.url("/ocsp")).unwrap(), reach: Reach::Configured }
    }

    #[tokio::test]
    async fn short_requests_are_gets_and_long_ones_are_posts() {
        let server = Server::start(|_| ok(b"answer")).await;
        let fetcher = Fetcher::new(OCSP_FETCH);
        // 188 bytes are 252 characters, 190 are 256.
        for (length, method) in [(1, "GET"), (188, "GET"), (190, "POST")] {
            let answer = responder(&server).get_or_post(&fetcher, vec![0; length]).await;
            assert_eq!(answer.unwrap(), "answer");
            assert_eq!(server.asked().last().unwrap().method, method, "{length}");
        }
        assert_eq!(server.asked()[0].target, "/ocsp/AA%3D%3D");
        responder(&server).get_or_post(&fetcher, vec![0xff, 0xef, 0xbe]).await.unwrap();
        assert_eq!(server.asked().last().unwrap().target, "/ocsp/%2F%2B%2B%2B");
    }

    #[tokio::test]
    async fn a_server_that_takes_no_get_is_asked_by_post() {
        let server = Server::start(|asked| match asked.method.as_str() {
            "POST" => ok(&asked.body),
            _ => reply("405 Method Not Allowed", "", b""),
        })
        .await;
        let fetcher = Fetcher::new(OCSP_FETCH);
        let answer = responder(&server).get_or_post(&fetcher, b"request".to_vec()).await;
        assert_eq!(answer.unwrap(), "request");
    }

    #[tokio::test]
    async fn an_answer_may_be_as_long_as_the_limit_and_no_longer() {
        for (length, fits) in [(OCSP_RESPONSE_BYTES_MAX, true), (OCSP_RESPONSE_BYTES_MAX + 1, false)] {
            let server = Server::start(move |_| ok(&vec![0; length])).await;
            let fetcher = Fetcher::new(OCSP_FETCH);
            assert_eq!(responder(&server).post(&fetcher, Vec::new()).await.is_ok(), fits, "{length}");
        }
    }
}
