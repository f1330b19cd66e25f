//! What several policies say together: one denial denies, and what those that allow ask for is done in the order in which they
//! were asked.

use std::rc::Rc;
use std::sync::Arc;

use regorus::Value;

use super::{Decision, DecisionError, FIELDS_MAX, invalid, metadata};

/// What the decision of a policy means together with that of the policies that were asked before it.
///
/// A denial stands alone, with nothing of what others would have changed. Of allows, what a later one sets or removes in the
/// request replaces what an earlier one does to the same name; what they add to the response is all added. Rule and reason are
/// those of the last that gives either. Metadata is one object, in which the later value of a key stands. `cache_ttl` is of use
/// to the cache of its own policy only, so that of the whole means nothing.
///
/// Does not allocate if one of two allows is no more than that.
///
/// # Errors
///
/// [`DecisionError::InvalidResult`] if all changes together are more than one decision may have. Each may be within its bounds,
/// but to carry out a part is to do what no policy has said.
pub fn combine(earlier: Rc<Decision>, later: Rc<Decision>) -> Result<Rc<Decision>, DecisionError> {
    if !earlier.allowed || later.is_plain_allow() {
        return Ok(earlier);
    }
    if !later.allowed || earlier.is_plain_allow() {
        return Ok(later);
    }
    merge(&earlier, &later).map(Rc::new)
}

impl Decision {
    /// Whether it allows and says nothing else that matters beyond its own policy.
    fn is_plain_allow(&self) -> bool {
        // All fields by name, so that one that is added later has to be thought of here.
        let Decision {
            allowed,
            undefined: _,
            status: _,
            body: _,
            headers: _,
            request_headers_to_set,
            request_headers_to_remove,
            response_headers_to_add,
            query_parameters_to_set,
            query_parameters_to_remove,
            metadata,
            rule,
            reason,
            cache_ttl: _,
        } = self;
        *allowed
            && request_headers_to_set.is_empty()
            && request_headers_to_remove.is_empty()
            && response_headers_to_add.is_empty()
            && query_parameters_to_set.is_empty()
            && query_parameters_to_remove.is_empty()
            && metadata.is_none()
            && rule.is_none()
            && reason.is_none()
    }
}

/// Of two allows.
fn merge(earlier: &Decision, later: &Decision) -> Result<Decision, DecisionError> {
    // As they are compared where they are carried out: header names in any case (RFC 9110 §5.1), parameters byte by byte.
    let headers = Edits {
        set: &later.request_headers_to_set,
        removed: &later.request_headers_to_remove,
        same: |a, b| a.eq_ignore_ascii_case(b),
    };
    let parameters = Edits {
        set: &later.query_parameters_to_set,
        removed: &later.query_parameters_to_remove,
        same: |a, b| a == b,
    };
    let says_why = if later.rule.is_some() || later.reason.is_some() { later } else { earlier };
    Ok(Decision {
        allowed: true,
        request_headers_to_set: headers.set_after("headers", &earlier.request_headers_to_set)?,
        request_headers_to_remove: headers
            .removed_after("request_headers_to_remove", &earlier.request_headers_to_remove)?,
        response_headers_to_add: joined(
            "response_headers_to_add",
            earlier.response_headers_to_add.iter(),
            &later.response_headers_to_add,
        )?,
        query_parameters_to_set: parameters
            .set_after("query_parameters_to_set", &earlier.query_parameters_to_set)?,
        query_parameters_to_remove: parameters
            .removed_after("query_parameters_to_remove", &earlier.query_parameters_to_remove)?,
        metadata: merged_metadata(earlier.metadata.as_ref(), later.metadata.as_ref())?,
        rule: says_why.rule.clone(),
        reason: says_why.reason.clone(),
        ..Decision::default()
    })
}

/// Name and value of a header field or a query parameter.
type Pair = (Arc<str>, Arc<str>);

/// What the later policy does to named parts of the request.
struct Edits<'d> {
    set: &'d [Pair],
    removed: &'d [Arc<str>],
    same: fn(&str, &str) -> bool,
}

impl Edits<'_> {
    /// What is set in all: not what the later policy sets otherwise or removes.
    fn set_after(&self, field: &str, earlier: &[Pair]) -> Result<Vec<Pair>, DecisionError> {
        joined(field, earlier.iter().filter(|(name, _)| !self.concerns(name)), self.set)
    }

    /// What is removed in all: not what the later policy sets, which replaces whatever the request had, nor anything twice.
    fn removed_after(&self, field: &str, earlier: &[Arc<str>]) -> Result<Vec<Arc<str>>, DecisionError> {
        joined(field, earlier.iter().filter(|name| !self.concerns(name)), self.removed)
    }

    fn concerns(&self, name: &str) -> bool {
        let set = self.set.iter().map(|(name, _)| name);
        set.chain(self.removed).any(|own| (self.same)(own, name))
    }
}

fn joined<'d, T: Clone + 'd>(
    field: &str,
    earlier: impl Iterator<Item = &'d T>,
    later: &'d [T],
) -> Result<Vec<T>, DecisionError> {
    let all: Vec<T> = earlier.chain(later).cloned().collect();
    if all.len() > FIELDS_MAX {
        let message =
            format!("`{field}` of all policies together has {} entries, more than {FIELDS_MAX}", all.len());
        return Err(invalid(&message));
    }
    Ok(all)
}

fn merged_metadata(
    earlier: Option<&Arc<str>>,
    later: Option<&Arc<str>>,
) -> Result<Option<Arc<str>>, DecisionError> {
    let (Some(earlier), Some(later)) = (earlier, later) else { return Ok(later.or(earlier).cloned()) };
    let unreadable = |_| invalid("`dynamic_metadata` of several policies cannot be put together");
    let mut all = Value::from_json_str(earlier).map_err(unreadable)?;
    let later = Value::from_json_str(later).map_err(unreadable)?;
    let keys = all.as_object_mut().map_err(unreadable)?;
    for (key, value) in later.as_object().map_err(unreadable)?.iter() {
        keys.insert(key.clone(), value.clone());
    }
    metadata(&all).map(Some)
}

#[cfg(test)]
mod tests;
