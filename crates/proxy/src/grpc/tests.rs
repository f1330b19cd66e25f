use std::{io, rc::Rc, sync::Arc};

use ringward_http::{RequestError, ResponseError};
use ringward_policy::{Decision, DecisionError};
use smallvec::smallvec;

use super::*;
use crate::respond;

fn denied(status: Option<u16>) -> ProxyError {
    ProxyError::Denied(Rc::new(Decision { status, ..Decision::default() }))
}

#[test]
fn every_error_that_is_answered_has_a_status_of_its_own_kind() {
    use GrpcStatus::{
        Cancelled, DeadlineExceeded, Internal, InvalidArgument, PermissionDenied, ResourceExhausted,
        Unauthenticated, Unavailable, Unimplemented,
    };
    let time = Duration::from_secs(1);
    let addr = ringward_config::EndpointAddr::Ip(([127, 0, 0, 1], 1).into());
    let connect = |kind: io::ErrorKind| ProxyError::Connect { addr: addr.clone(), source: kind.into() };
    for (error, expected) in [
        (denied(None), PermissionDenied),
        (denied(Some(403)), PermissionDenied),
        (denied(Some(451)), PermissionDenied),
        (denied(Some(401)), Unauthenticated),
        (denied(Some(404)), Unimplemented),
        (denied(Some(429)), ResourceExhausted),
        (ProxyError::CertificateRequired, Unauthenticated),
        (ProxyError::CertificateRefused("x".into()), Unauthenticated),
        (ProxyError::RevocationRefused("x".into()), Unauthenticated),
        (ProxyError::NoRoute, Unimplemented),
        (ProxyError::MethodNotAllowed { allow: "GET".into() }, Unimplemented),
        (ProxyError::Head(RequestError::BadTarget), InvalidArgument),
        (ProxyError::BadGrpcTimeout(grpc::BadTimeout), InvalidArgument),
        (ProxyError::BodyTooLarge { limit: 1 }, ResourceExhausted),
        (ProxyError::PolicyBudget, ResourceExhausted),
        (ProxyError::BodyTimeout(time), Cancelled),
        (ProxyError::GrpcTimeout(time), DeadlineExceeded),
        (ProxyError::RequestTimeout(time), DeadlineExceeded),
        (ProxyError::UpstreamTimeout(time), DeadlineExceeded),
        (ProxyError::AuditOverflow, Unavailable),
        (ProxyError::Unsettled(8), Unavailable),
        (connect(io::ErrorKind::ConnectionRefused), Unavailable),
        (connect(io::ErrorKind::TimedOut), Unavailable),
        (ProxyError::UpstreamClosed, Unavailable),
        (ProxyError::UpstreamReset(io::ErrorKind::ConnectionReset.into()), Unavailable),
        (ProxyError::UpstreamUnprocessed(Reason::REFUSED_STREAM), Unavailable),
        (ProxyError::UpstreamStreamReset(Reason::CANCEL), Cancelled),
        (ProxyError::UpstreamStreamReset(Reason::ENHANCE_YOUR_CALM), ResourceExhausted),
        (ProxyError::UpstreamStreamReset(Reason::INTERNAL_ERROR), Internal),
        (ProxyError::Policy(DecisionError::Panic), Internal),
        (ProxyError::UnverifiedClient, Internal),
        (ProxyError::UpstreamHead(ResponseError::BadStatusLine), Internal),
        (ProxyError::UpstreamTruncated { missing: 1 }, Internal),
    ] {
        let answer = respond::answer(&error);
        assert_eq!(status(&error, answer), Some(expected), "{error}");
    }
}

#[test]
fn misdirected_calls_and_those_without_an_answer_are_left_to_http() {
    for error in [
        ProxyError::UnknownHost("a.example".into()),
        ProxyError::Misdirected { host: "a.example".into(), admitted_as: Arc::from("b.example") },
        ProxyError::ClientGone,
        ProxyError::ClientStalled(Duration::from_secs(1)),
    ] {
        assert_eq!(status(&error, respond::answer(&error)), None, "{error}");
    }
}

/// The fields of a trailers-only response that stand for this text, with these fields of a policy.
fn fields(body: &str, set: &[(&str, &[u8])]) -> Vec<(String, String)> {
    let mut content = Content { fields: smallvec![], body };
    content.fields.extend(set.iter().copied());
    let mut fields = Vec::new();
    trailers_only(GrpcStatus::PermissionDenied, &content, |name, value| {
        fields.push((String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap()));
    });
    fields
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn what_a_policy_says_goes_along_but_not_its_status() {
    let set: [(&str, &[u8]); 4] = [
        ("x-why", b"quota"),
        ("Grpc-Status", b"0"),
        ("grpc-message", b"fine"),
        ("content-type", b"text/plain"),
    ];
    assert_eq!(
        fields("not you: 100 %\n", &set),
        [
            pair("content-type", "application/grpc"),
            pair("x-why", "quota"),
            pair("grpc-status", "7"),
            pair("grpc-message", "not you: 100 %25"),
        ]
    );
}

#[test]
fn a_text_that_is_too_long_is_not_told() {
    let has_message = |body: &str| fields(body, &[]).iter().any(|(name, _)| name == grpc::MESSAGE);
    assert!(has_message(&"x".repeat(MESSAGE_BYTES_MAX)));
    assert!(!has_message(&"x".repeat(MESSAGE_BYTES_MAX + 1)));
    assert!(!has_message(""));
}

#[test]
fn the_upstreams_status_counts_for_calls_alone() {
    let progress = Progress::default();
    note(&progress, "Grpc-Status", b"5");
    assert_eq!(progress.grpc.get(), None);
    progress.grpc.set(Some(GrpcStatus::None));
    note(&progress, "x", b"5");
    assert_eq!(progress.grpc.get(), Some(GrpcStatus::None));
    note(&progress, "Grpc-Status", b"5");
    assert_eq!(progress.grpc.get(), Some(GrpcStatus::NotFound));
}
