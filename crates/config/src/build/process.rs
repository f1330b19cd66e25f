//! The process as a whole: `[server]`, `[admin]`, `[log]` and `[keys]`.

use std::num::{NonZeroU32, NonZeroUsize};

use serde_spanned::Spanned;

use super::context::{Context, UNLIMITED};
use super::discovery;
use super::section;
use crate::bounds;
use crate::model::{
    AccessLog, Admin, Audit, Bind, IoDriver, Keys, Level, Log, Maintenance, NamedPath, Server, SessionCache,
};
use crate::raw::{self, Field};
use crate::units::ShowDuration;

pub(super) fn server(cx: &mut Context<'_>, field: &Field<raw::Server>) -> Server {
    let (raw, _) = section(cx, field);
    let workers = cx.number_or_word("workers", &raw.workers, "auto", &bounds::WORKERS);
    Server {
        workers: workers.and_then(|count| usize::try_from(count).ok()).and_then(NonZeroUsize::new),
        io: cx.value_or(&raw.io, IoDriver::Auto),
        drain_timeout: cx.duration("drain_timeout", &raw.drain_timeout, &bounds::DRAIN_TIMEOUT),
        state_dir: cx
            .given(&raw.state_dir)
            .and_then(|path| cx.path("state_dir", path.get_ref(), &path.span())),
        fetch_ca: cx.given(&raw.fetch_ca).and_then(|path| cx.path("fetch_ca", path.get_ref(), &path.span())),
        session_cache: session_cache(cx, &raw.session_cache),
        trust_grace: cx.duration("trust_grace", &raw.trust_grace, &bounds::TRUST_GRACE),
        trust_drain_rate: trust_drain_rate(cx, &raw.trust_drain_rate),
        policy_body_memory_max: cx.size(
            "policy_body_memory_max",
            &raw.policy_body_memory_max,
            &bounds::POLICY_BODY_MEMORY_MAX,
        ),
        compression_memory_max: cx.size(
            "compression_memory_max",
            &raw.compression_memory_max,
            &bounds::COMPRESSION_MEMORY_MAX,
        ),
        dns_servers: cx.given(&raw.dns_servers).map(|list| discovery::servers(cx, list)).unwrap_or_default(),
        memory_max: cx.optional_size("memory_max", &raw.memory_max, &bounds::MEMORY_MAX),
        zone: cx.given(&raw.zone).and_then(|zone| cx.name("a zone", zone.get_ref(), &zone.span())),
    }
}

fn session_cache(cx: &mut Context<'_>, field: &Field<raw::SessionCache>) -> SessionCache {
    let (raw, _) = section(cx, field);
    SessionCache {
        entries: cx.number("entries", &raw.entries, &bounds::SESSION_CACHE_ENTRIES),
        bytes_max: cx.size("bytes_max", &raw.bytes_max, &bounds::SESSION_CACHE_BYTES_MAX),
    }
}

fn trust_drain_rate(cx: &mut Context<'_>, field: &Field<raw::CountOrWord>) -> Option<NonZeroU32> {
    let bounds = &bounds::TRUST_DRAIN_RATE;
    let rate = match field.given() {
        None => Some(bounds.default),
        Some(_) => cx.number_or_word("trust_drain_rate", field, UNLIMITED, bounds),
    };
    rate.and_then(|rate| u32::try_from(rate).ok()).and_then(NonZeroU32::new)
}

pub(super) fn admin(cx: &mut Context<'_>, field: &Field<raw::Admin>) -> Admin {
    let (raw, _) = section(cx, field);
    let metrics = cx.given(&raw.metrics).and_then(|text| {
        let addr = cx.socket_addr("metrics", text.get_ref(), &text.span())?;
        Some(Bind { addr, at: cx.at(&text.span()) })
    });
    let socket = cx.given(&raw.socket).and_then(|path| admin_socket(cx, path));
    let announced = cx.given(&raw.maintenance).and_then(|maintenance| maintenance_window(cx, maintenance));
    Admin { metrics, socket, maintenance: announced }
}

/// None if it is over: as with suspensions of revocation, the file must not become bad by the passing of time.
fn maintenance_window(cx: &mut Context<'_>, raw: &Spanned<raw::Maintenance>) -> Option<Maintenance> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let until = cx.required("until", "until = 2027-03-01T18:00:00Z", &raw.until, &span);
    let reason = cx.required("reason", "reason = \"TEXT\"", &raw.reason, &span);
    let (until, reason) = (until?, reason?);
    let (bytes, allowed) = (reason.get_ref().trim().len(), bounds::MAINTENANCE_REASON_BYTES);
    if !allowed.contains(&bytes) {
        let (min, max) = (allowed.start(), allowed.end());
        cx.error(&reason.span(), format!("`reason` has {bytes} bytes: {min} to {max} are allowed"))
            .help("say in a few words what is done, for those who find the line in the log");
    }
    let until_unix = cx.moment("until", until)?;
    let left = until_unix.saturating_sub(cx.now_unix());
    if left <= 0 {
        cx.warning(&span, "the maintenance is over: alerts are no longer silenced").help("remove it");
        return None;
    }
    if left.unsigned_abs() > bounds::MAINTENANCE_MAX.as_secs() {
        let max = ShowDuration(bounds::MAINTENANCE_MAX);
        cx.error(&until.span(), format!("`until` is more than {max} ahead"))
            .help("choose an earlier moment, and another one then if the work goes on");
        return None;
    }
    Some(Maintenance { until_unix, reason: reason.get_ref().trim().to_owned() })
}

fn admin_socket(cx: &mut Context<'_>, path: &Spanned<String>) -> Option<NamedPath> {
    cx.needs_state_dir(&path.span(), "`socket`", "what is revoked through the socket is kept in it");
    let named = cx.path("socket", path.get_ref(), &path.span())?;
    let bytes = named.path.as_os_str().len();
    if bytes > bounds::SOCKET_PATH_BYTES_MAX {
        let max = bounds::SOCKET_PATH_BYTES_MAX;
        cx.error(
            &path.span(),
            format!("`socket` has {bytes} bytes with its directory: up to {max} are possible"),
        )
        .help("the kernel takes no longer path for a Unix socket: choose a directory such as /run/ringward");
    }
    Some(named)
}

pub(super) fn keys(cx: &mut Context<'_>, field: &Field<raw::Keys>) -> Keys {
    let (raw, _) = section(cx, field);
    let rotate = cx.value_or(&raw.rotate, false);
    if let (true, true, Some(span)) = (rotate, raw.file.is_absent(), raw.rotate.span()) {
        cx.error(&span, "`rotate` is true, but `file` is missing").help(
            "add file = \"FILE\", or leave rotate away: keys of this process alone rotate by themselves",
        );
    }
    Keys {
        file: cx.given(&raw.file).and_then(|path| cx.path("file", path.get_ref(), &path.span())),
        rotate_every: cx.duration("rotate_every", &raw.rotate_every, &bounds::KEYS_ROTATE_EVERY),
        rotate,
    }
}

pub(super) fn log(cx: &mut Context<'_>, field: &Field<raw::Log>) -> Log {
    let (raw, _) = section(cx, field);
    let access = match cx.given(&raw.access).map(Spanned::get_ref) {
        None | Some(raw::AccessLog::Stdout) => Some(AccessLog::Stdout),
        Some(raw::AccessLog::Stderr) => Some(AccessLog::Stderr),
        Some(raw::AccessLog::Off) => Some(AccessLog::Off),
        Some(raw::AccessLog::File(path)) => {
            cx.given(path).and_then(|path| cx.path("file", path.get_ref(), &path.span())).map(AccessLog::File)
        }
    };
    let access = access.unwrap_or(AccessLog::Stdout);
    let audit = cx.value_or(&raw.audit, Audit::BestEffort);
    if let (AccessLog::Off, Audit::Required, Some(span)) = (&access, audit, raw.audit.span()) {
        cx.error(&span, "`audit` is \"required\", but access = \"off\" writes no records")
            .help("write the records somewhere, or leave audit away");
    }
    Log {
        access,
        audit,
        level: cx.value_or(&raw.level, Level::Info),
        queue_records: cx.number("queue_records", &raw.queue_records, &bounds::QUEUE_RECORDS),
    }
}
