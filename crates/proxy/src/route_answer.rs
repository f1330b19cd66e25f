//! Answers that a route gives by itself, once a request is allowed: redirects and fixed responses.

use std::{rc::Rc, sync::Arc};

use ringward_config::{Action, Template, TemplateValues};
use ringward_http::write;
use ringward_identity::PeerIdentity;
use ringward_policy::Decision;

use crate::{
    error::ProxyError,
    header_edits::{self, Asking, Fields},
};

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
    /// What the configuration adds.
    pub(crate) fields: Vec<(Box<str>, Box<[u8]>)>,
    /// What allowed the request, and may add fields.
    pub(crate) decision: Option<Rc<Decision>>,
}

impl RouteAnswer {
    /// The answer of a route, if it does not send its requests upstream.
    pub(crate) fn of(action: &Action) -> Option<RouteAnswer> {
        match action {
            Action::Cluster(_) | Action::Split(_) => None,
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
        asking: &Asking<'_>,
        caller: Option<&PeerIdentity>,
        decision: Option<Rc<Decision>>,
    ) -> ProxyError {
        match header_edits::fields(asking.target.route, asking, caller) {
            Ok(fields) => {
                asking.with_values(caller, |values| self.answered(values, fields.as_deref(), decision))
            }
            Err(error) => error,
        }
    }

    fn answered(
        &self,
        values: &TemplateValues<'_>,
        fields: Option<&Fields<'_>>,
        decision: Option<Rc<Decision>>,
    ) -> ProxyError {
        let owned = |(name, value): (&str, &[u8])| (name.into(), value.into());
        let added = fields.map_or_else(Vec::new, |fields| {
            fields.set_in_response().chain(fields.appended_to_response()).map(owned).collect()
        });
        let is_replaced = |name: &[u8]| fields.is_some_and(|fields| fields.drops_of_response(name));
        match self {
            Self::Redirect { status, to } => {
                let mut location = String::new();
                let is_filled = to.append(&mut location, values);
                // No normalised path leads here; what cannot be a field, or names a host after all, is not sent.
                if !is_filled
                    || location.starts_with("//")
                    || !write::is_settable("location", location.as_bytes())
                {
                    return ProxyError::BadRedirect;
                }
                ProxyError::Redirected(Box::new(Answered {
                    status: *status,
                    location: Some(location).filter(|_| !is_replaced(b"location")),
                    content_type: None,
                    body: Arc::from(""),
                    fields: added,
                    decision,
                }))
            }
            Self::Respond { status, content_type, body } => ProxyError::Responded(Box::new(Answered {
                status: *status,
                location: None,
                content_type: (!body.is_empty() && !is_replaced(b"content-type"))
                    .then(|| content_type.clone()),
                body: body.clone(),
                fields: added,
                decision,
            })),
        }
    }
}
