//! Answers that a route gives by itself, once a request is allowed: redirects and fixed responses.

use std::{rc::Rc, sync::Arc};

use ringward_config::{Action, Template, TemplateValues};
use ringward_http::{RequestHead, write};
use ringward_policy::Decision;

use crate::{error::ProxyError, route::Target};

/// What a route answers.
#[derive(Clone, Debug)]
pub(crate) enum RouteAnswer {
    Redirect { status: u16, to: Template },
    Respond { status: u16, content_type: Arc<str>, body: Arc<str> },
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// `Location`, of a redirect.
    pub(crate) location: Option<String>,
    pub(crate) content_type: Option<Arc<str>>,
    pub(crate) body: Arc<str>,
    /// What allowed the request, and may add fields.
    pub(crate) decision: Option<Rc<Decision>>,
}

impl RouteAnswer {
    /// The answer of a route, if it does not send its requests upstream.
    pub(crate) fn of(action: &Action) -> Option<RouteAnswer> {
        match action {
            Action::Cluster(_) => None,
            Action::Redirect { status, to } => Some(Self::Redirect { status: *status, to: to.clone() }),
            Action::Respond { status, content_type, body } => Some(Self::Respond {
                status: *status,
                content_type: content_type.as_str().into(),
                body: body.as_str().into(),
            }),
        }
    }

    /// The answer to one request, as the error that ends its exchange.
    pub(crate) fn to(
        &self,
        head: &RequestHead,
        target: &Target<'_>,
        decision: Option<Rc<Decision>>,
    ) -> ProxyError {
        match self {
            Self::Redirect { status, to } => {
                let (host, path) = (head.host(), head.path());
                let values = TemplateValues { host, path, query: head.query(), params: &target.params };
                let location = to.fill(&values);
                // No normalised path leads here; what cannot be a field, or names a host after all, is not sent.
                if location.starts_with("//") || !write::is_settable("location", location.as_bytes()) {
                    return ProxyError::BadRedirect;
                }
                ProxyError::Redirected(Box::new(Answered {
                    status: *status,
                    location: Some(location),
                    content_type: None,
                    body: Arc::from(""),
                    decision,
                }))
            }
            Self::Respond { status, content_type, body } => ProxyError::Responded(Box::new(Answered {
                status: *status,
                location: None,
                content_type: (!body.is_empty()).then(|| content_type.clone()),
                body: body.clone(),
                decision,
            })),
        }
    }
}
