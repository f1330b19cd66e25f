//! When endpoints that fail requests get none for a while.

use serde_spanned::Spanned;

use super::context::Context;
use super::health_check;
use crate::bounds;
use crate::model::OutlierDetection;
use crate::raw::{self, Field};

/// What a cluster says; `None` if it says nothing.
pub(super) fn outlier_detection(
    cx: &mut Context<'_>,
    field: &Field<raw::OutlierDetection>,
) -> Option<OutlierDetection> {
    let raw = cx.given(field)?.get_ref();
    let failures =
        cx.number("consecutive_failures", &raw.consecutive_failures, &bounds::CONSECUTIVE_FAILURES);
    let statuses = cx
        .given(&raw.status)
        .map(|list| health_check::statuses(cx, "status", list, bounds::RETRY_STATUSES, bounds::RETRY_STATUS));
    let ejection_time = cx.duration("ejection_time", &raw.ejection_time, &bounds::EJECTION_TIME);
    let ejection_time_max =
        cx.duration("ejection_time_max", &raw.ejection_time_max, &bounds::EJECTION_TIME_MAX);
    if ejection_time_max < ejection_time {
        // One of both is given: the defaults fit.
        let spans =
            [&raw.ejection_time_max, &raw.ejection_time].map(|field| cx.given(field).map(Spanned::span));
        if let Some(span) = spans.into_iter().flatten().next() {
            cx.error(
                &span,
                format!("`ejection_time_max` is {ejection_time_max:?}, less than `ejection_time` ({ejection_time:?})"),
            )
            .help("write the same twice for ejections that all last as long");
        }
    }
    let percent = cx.number("ejected_percent_max", &raw.ejected_percent_max, &bounds::EJECTED_PERCENT_MAX);
    let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Some(OutlierDetection {
        consecutive_failures: whole(failures),
        statuses: statuses.unwrap_or_else(|| vec![502..=504]),
        ejection_time,
        ejection_time_max,
        ejected_percent_max: whole(percent),
    })
}
