//! Limits of TLS handshakes.

use std::num::NonZeroU32;
use std::time::Duration;

use super::context::Context;
use crate::bounds;
use crate::model::{Handshakes, HandshakesPerSource};
use crate::raw::{self, Count, Field};
use crate::units::ShowDuration;

/// What a listener says about handshakes, if it says something. `handshake_timeout` is the listener's.
pub(super) fn handshakes(
    cx: &mut Context<'_>,
    field: &Field<raw::Handshakes>,
    handshake_timeout: Duration,
) -> Option<Handshakes> {
    let raw = cx.given(field)?.get_ref();
    let queue_timeout = cx.duration("queue_timeout", &raw.queue_timeout, &bounds::HANDSHAKE_QUEUE_TIMEOUT);
    if queue_timeout >= handshake_timeout {
        let span = raw.queue_timeout.span().or(field.span()).unwrap_or_default();
        let (queue, whole) = (ShowDuration(queue_timeout), ShowDuration(handshake_timeout));
        let message = format!(
            "`queue_timeout` is {queue}, and the whole handshake may take {whole} (`handshake_timeout`)"
        );
        cx.error(&span, message)
            .help("lower `queue_timeout`, so that who has waited has time for the handshake as well");
    }
    Some(Handshakes {
        concurrent_max: cx.number("concurrent_max", &raw.concurrent_max, &bounds::HANDSHAKES_CONCURRENT_MAX),
        full_per_second: rate(cx, "full_per_second", &raw.full_per_second),
        queue_max: cx.number("queue_max", &raw.queue_max, &bounds::HANDSHAKE_QUEUE_MAX),
        queue_timeout,
        per_source: per_source(cx, &raw.per_source),
    })
}

fn per_source(cx: &mut Context<'_>, field: &Field<raw::HandshakesPerSource>) -> Option<HandshakesPerSource> {
    let given = cx.given(field)?;
    let (span, raw) = (given.span(), given.get_ref());
    let has_limit = !raw.full_per_second.is_absent()
        || !raw.failures_per_minute.is_absent()
        || !raw.connections_max.is_absent();
    if !has_limit {
        cx.error(&span, "`per_source` limits nothing").help(
            "add full_per_second = 50, failures_per_minute = 60 or connections_max = 200, or remove it",
        );
    }
    if let Some(span) = raw.refuse_for.span().filter(|_| raw.failures_per_minute.is_absent()) {
        cx.error(&span, "`refuse_for` has no meaning without `failures_per_minute`")
            .help("add failures_per_minute = 60, or remove it");
    }
    let connections_max =
        cx.optional_number("connections_max", &raw.connections_max, &bounds::CONNECTIONS_MAX);
    let mut prefix = |key, field, bounds| u8::try_from(cx.number(key, field, bounds)).unwrap_or(u8::MAX);
    Some(HandshakesPerSource {
        connections_max,
        prefix_v4: prefix("prefix_v4", &raw.prefix_v4, &bounds::SOURCE_PREFIX_V4),
        prefix_v6: prefix("prefix_v6", &raw.prefix_v6, &bounds::SOURCE_PREFIX_V6),
        full_per_second: rate(cx, "full_per_second", &raw.full_per_second),
        failures_per_minute: rate(cx, "failures_per_minute", &raw.failures_per_minute),
        refuse_for: cx.duration("refuse_for", &raw.refuse_for, &bounds::SOURCE_REFUSED_FOR),
    })
}

fn rate(cx: &mut Context<'_>, key: &str, field: &Field<Count>) -> Option<NonZeroU32> {
    let number = cx.optional_number(key, field, &bounds::HANDSHAKE_RATE)?;
    NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX))
}
