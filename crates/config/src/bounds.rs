//! Defaults and bounds of every number in the configuration, each with where it comes from.
//!
//! Bounds refuse slips (a timeout of 10 hours for 10 seconds) and values that would take the process down. They are
//! no advice: within them the operator decides.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A duration in the file.
pub(crate) struct DurationBounds {
    pub(crate) default: Duration,
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

/// A size or number in the file.
pub(crate) struct NumberBounds {
    pub(crate) default: u64,
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// systemd kills 90 s after SIGTERM by default, so the default stays below; a long download may deserve an hour.
pub(crate) const DRAIN_TIMEOUT: DurationBounds = durations(secs(30), millis(100)..=secs(3600));

/// A client that lost our trust finishes what it does if that is quick; an hour is for uploads that must not break.
pub(crate) const TRUST_GRACE: DurationBounds = durations(secs(30), secs(0)..=secs(3600));

/// A full handshake costs about 0.13 ms of one core, so 1000 per second leave most of it to everybody else.
pub(crate) const TRUST_DRAIN_RATE: NumberBounds = numbers(1000, 1..=1_000_000);

/// As many sessions as connections that common limits of open files allow. A table of 64 has 16 sets; 10 million would be
/// 80 MB before the first session.
pub(crate) const SESSION_CACHE_ENTRIES: NumberBounds = numbers(20_000, 64..=10_000_000);

/// About 1.2 KiB for a session with a chain of two, so 64 MiB hold the default number of entries threefold. 256 KiB hold
/// the least number of entries at the largest size of a session.
pub(crate) const SESSION_CACHE_BYTES_MAX: NumberBounds = numbers(64 << 20, 256 << 10..=64 << 30);

/// An hour still leaves time to carry a key to every node before it seals; longer than a day is hardly a rotation.
pub(crate) const KEYS_ROTATE_EVERY: DurationBounds = durations(secs(4 * 3600), secs(3600)..=secs(86_400));

/// More threads than any machine has cores are a slip, and each costs a ring and its buffers.
pub(crate) const WORKERS: NumberBounds = numbers(0, 1..=1024);

/// 8192 records of about 1 KiB are 8 MiB per worker: a fifth of a second at 40,000 requests per second.
pub(crate) const QUEUE_RECORDS: NumberBounds = numbers(8192, 64..=1_048_576);

/// A request waits for its decision, and so does every other connection of the worker; 5 ms holds policies of some
/// thousand rules, and one second is already an outage.
pub(crate) const TIME_BUDGET: DurationBounds = durations(millis(5), micros(100)..=secs(1));

/// A decision takes about 0.4 KiB with its key, so the default number fits the default bytes. Dropping 65,536 of them, when a policy changes, holds a worker
/// up for a few milliseconds.
pub(crate) const POLICY_CACHE_ENTRIES: NumberBounds = numbers(8192, 64..=65_536);

/// A sixteenth is the largest entry, so 256 KiB have room for decisions of 12 KiB. Each worker and each policy takes as much.
pub(crate) const POLICY_CACHE_BYTES: NumberBounds = numbers(4 << 20, 256 << 10..=256 << 20);

/// An evaluation costs about a hundred times as much as a hit, so one in 1024 makes hits a tenth dearer on average.
pub(crate) const POLICY_CACHE_VERIFY_EVERY: NumberBounds = numbers(1024, 1..=1_000_000);

/// Unlimited unless given: how much an honest client misses depends on the policy, and only the operator knows which clients
/// stand for many.
pub(crate) const POLICY_MISSES_PER_SECOND: NumberBounds = numbers(10_000, 1..=1_000_000);

/// A server beside us answers within a few milliseconds; 100 ms survive a pause of its garbage collector. Longer than 10 s no
/// client waits for a decision.
pub(crate) const POLICY_SERVER_TIMEOUT: DurationBounds = durations(millis(100), millis(1)..=secs(10));

/// With answers after 2 ms, 256 carry more than 100,000 questions per second. The upper bound is the number of ports of one
/// address.
pub(crate) const POLICY_SERVER_CONNECTIONS_MAX: NumberBounds = numbers(256, 1..=65_536);

/// The largest decision has about 70 KiB: a body of 64 KiB, which JSON escapes may double, and its lists of fields.
pub(crate) const POLICY_SERVER_ANSWER_BYTES_MAX: NumberBounds = numbers(256 << 10, 1 << 10..=4 << 20);

/// More than one slow answer, less than a second of traffic.
pub(crate) const POLICY_SERVER_FAILURES_TO_OPEN: NumberBounds = numbers(10, 1..=1_000_000);

/// A server that starts anew is back after about a second.
pub(crate) const POLICY_SERVER_OPEN_FOR: DurationBounds = durations(secs(1), millis(10)..=secs(3600));

/// One retransmission of a SYN happens after 1 s (RFC 6298 §2), so 2 s survive the loss of one packet.
pub(crate) const CONNECT_TIMEOUT: DurationBounds = durations(secs(2), millis(1)..=secs(60));

/// The limit of most gateways lies between 15 s (Envoy) and 60 s (nginx).
/// Streams of events may be silent for hours.
pub(crate) const RESPONSE_TIMEOUT: DurationBounds = durations(secs(30), millis(1)..=secs(86_400));

/// Unlimited unless given: streams of events, of model output and of gRPC last as long as they last, and `response_timeout`
/// ends those that stand still.
pub(crate) const REQUEST_TIMEOUT: DurationBounds = durations(secs(60), millis(1)..=secs(86_400));

/// Below the 75 s of nginx and the 60 s of common load balancers, so that we close first.
pub(crate) const POOL_IDLE_TIMEOUT: DurationBounds = durations(secs(60), millis(10)..=secs(3600));

/// Per worker and cluster: more unused connections than a server can hold open are of no use. The upper bound is the
/// number of ports of one address.
pub(crate) const POOL_IDLE_MAX: NumberBounds = numbers(256, 0..=65_536);

/// Per worker and endpoint. With 100 streams each, 16 connections carry 1600 requests at once.
pub(crate) const UPSTREAM_CONNECTIONS_MAX: NumberBounds = numbers(16, 1..=1024);

/// As many as RFC 9113 §6.5.2 wants servers to allow at least. What 1000 slow clients leave in memory is 64 MiB.
pub(crate) const STREAMS_PER_CONNECTION_MAX: NumberBounds = numbers(100, 1..=1000);

/// The defaults of Envoy's examples, HAProxy and nginx Plus lie between 2 s and 15 s. More often than ten times per second is
/// load of its own.
pub(crate) const HEALTH_CHECK_INTERVAL: DurationBounds = durations(secs(5), millis(100)..=secs(3600));

/// An endpoint that needs longer to say that it is well is not.
pub(crate) const HEALTH_CHECK_TIMEOUT: DurationBounds = durations(secs(1), millis(10)..=secs(60));

/// As with HAProxy (`rise`): one success may be chance.
pub(crate) const HEALTHY_THRESHOLD: NumberBounds = numbers(2, 1..=100);

/// As with HAProxy (`fall`): one lost packet or pause of a garbage collector is no failure.
pub(crate) const UNHEALTHY_THRESHOLD: NumberBounds = numbers(3, 1..=100);

/// As with Envoy.
pub(crate) const PANIC_THRESHOLD: NumberBounds = numbers(50, 0..=100);

/// As with Envoy; it is rather a series than chance.
pub(crate) const CONSECUTIVE_FAILURES: NumberBounds = numbers(5, 1..=1000);

/// As with Envoy.
pub(crate) const EJECTION_TIME: DurationBounds = durations(secs(30), millis(100)..=secs(86_400));

/// As with Envoy.
pub(crate) const EJECTION_TIME_MAX: DurationBounds = durations(secs(300), millis(100)..=secs(86_400));

/// Half of a small cluster can mostly serve what all did. What all fail at is rather the fault of what is behind them.
pub(crate) const EJECTED_PERCENT_MAX: NumberBounds = numbers(50, 1..=100);

/// One more than without; ten tries of one request are an attack on the upstream.
pub(crate) const RETRY_ATTEMPTS: NumberBounds = numbers(2, 2..=10);

/// As with Envoy.
pub(crate) const RETRY_BACKOFF: DurationBounds = durations(millis(25), millis(1)..=secs(10));

/// As with Envoy, and with Finagle and Linkerd of the requests of some time.
pub(crate) const RETRY_BUDGET_PERCENT: NumberBounds = numbers(20, 0..=100);

/// As with Finagle and Linkerd.
pub(crate) const RETRY_BUDGET_PER_SECOND: NumberBounds = numbers(10, 0..=1_000_000);

/// Unlimited unless given: what an upstream can bear, only the operator knows.
pub(crate) const CLUSTER_REQUESTS_MAX: NumberBounds = numbers(1000, 1..=1_000_000);

/// Nobody waits unless the operator says so: a queue adds to the time of every request behind it.
pub(crate) const CLUSTER_PENDING_MAX: NumberBounds = numbers(0, 0..=1_000_000);

/// Whoever would wait longer is served better by an answer now.
pub(crate) const CLUSTER_PENDING_TIMEOUT: DurationBounds = durations(secs(1), millis(1)..=secs(60));

/// Entries of `status` in `retry`.
pub(crate) const RETRY_STATUSES: RangeInclusive<usize> = 1..=16;
/// Whatever says that something is wrong.
pub(crate) const RETRY_STATUS: RangeInclusive<u16> = 400..=599;

/// `net.core.somaxconn` is 4096 since Linux 5.4; the kernel keeps the backlog in 16 bits.
pub(crate) const BACKLOG: NumberBounds = numbers(4096, 1..=65_535);

/// Common limits of open files allow 20,000 connections with one upstream connection each; 10 million is what
/// `fs.nr_open` could be raised to on large machines.
pub(crate) const CONNECTIONS_MAX: NumberBounds = numbers(20_000, 1..=10_000_000);

/// Unlimited unless given. The process takes 16 MiB itself, and more than 16 TiB no machine has.
pub(crate) const MEMORY_MAX: NumberBounds = numbers(1 << 30, 16 << 20..=16 << 40);

/// A client takes some ten milliseconds for its part, so 1024 at a time are far more per second than any core can do; what they
/// hold is 17 MiB, 17 KiB for each (measured with 2000 that wait for the client's part). With 4 a quarter is one.
pub(crate) const HANDSHAKES_CONCURRENT_MAX: NumberBounds = numbers(1024, 4..=1_000_000);

/// Unlimited unless given: what a node can do depends on its cores and keys. A full handshake costs about 0.13 ms of one core.
pub(crate) const HANDSHAKE_RATE: NumberBounds = numbers(1_000_000, 1..=1_000_000);

/// A seventh of a second of what a core can do, with 7 KiB for each (measured with 2000 that wait).
pub(crate) const HANDSHAKE_QUEUE_MAX: NumberBounds = numbers(1024, 0..=1_000_000);

/// Clients that wait longer than some seconds have often given up, and are served for nothing.
pub(crate) const HANDSHAKE_QUEUE_TIMEOUT: DurationBounds = durations(secs(2), millis(10)..=secs(60));

/// Required: what upstreams can do, nobody knows but the operator.
pub(crate) const REQUESTS_CONCURRENT_MAX: NumberBounds = numbers(1000, 1..=1_000_000);

/// As many as of handshakes, of which each may bring a request.
pub(crate) const REQUEST_QUEUE_MAX: NumberBounds = numbers(1024, 0..=1_000_000);

/// Who waits longer than a second is better told to come back, or to ask somebody else.
pub(crate) const REQUEST_QUEUE_TIMEOUT: DurationBounds = durations(secs(1), millis(10)..=secs(60));

/// Shorter than a minute is no penalty for who may fail every minute, and after a day addresses belong to others.
pub(crate) const SOURCE_REFUSED_FOR: DurationBounds = durations(secs(60), secs(1)..=secs(86_400));

/// The longest prefix that is announced on the Internet; fewer bits than 8 are a continent.
pub(crate) const SOURCE_PREFIX_V4: NumberBounds = numbers(24, 8..=32);

/// What providers give to a customer (RIPE-690 names /56 and /48).
pub(crate) const SOURCE_PREFIX_V6: NumberBounds = numbers(56, 16..=128);

/// nginx takes 4 times 8 KiB, Node 16 KiB, Envoy 60 KiB. Every connection can make us hold this much.
pub(crate) const HEAD_BYTES_MAX: NumberBounds = numbers(32 << 10, 1 << 10..=1 << 20);

/// As many as Envoy and Apache httpd allow by default.
pub(crate) const FIELDS_MAX: NumberBounds = numbers(100, 1..=1000);

/// As many as RFC 9113 §6.5.2 wants at least, and Envoy, HAProxy and most others have. Each open stream is a request in work.
pub(crate) const STREAMS_MAX: NumberBounds = numbers(100, 1..=1000);

/// Bodies are streamed, so this protects upstreams: enough for APIs, too little for uploads that nobody planned. Any
/// size may be set, 0 too: no bodies at all.
pub(crate) const BODY_BYTES_MAX_DEFAULT: u64 = 10 << 20;

/// Read and held before each decision, so there is no default: the operator says which routes are worth it. JSON is parsed at
/// once, while the worker's other connections wait, so a body is no place for large documents.
pub(crate) const POLICY_BODY_MAX: NumberBounds = numbers(64 << 10, 1..=1 << 20);

/// A thousand bodies of 64 KiB that arrive slowly. A worker has room for one of the largest bodies, with its framing, in
/// 4 MiB.
pub(crate) const POLICY_BODY_MEMORY_MAX: NumberBounds = numbers(64 << 20, 4 << 20..=64 << 30);

/// A response of less fits a packet with its head, compressed or not. As with most gateways; nginx has 20 bytes.
pub(crate) const COMPRESSION_BYTES_MIN: NumberBounds = numbers(1024, 1..=1 << 30);

/// As zstd has it. Above 9, a step takes too long.
pub(crate) const ZSTD_LEVEL: NumberBounds = numbers(3, 1..=9);

/// 0 and 1 are no better than gzip, and above 4 the encoder is no better than with 4, or a step takes too long.
pub(crate) const BR_LEVEL: NumberBounds = numbers(4, 2..=4);

/// 6 is zlib's own, for files; nearly as good, and faster.
pub(crate) const GZIP_LEVEL: NumberBounds = numbers(5, 1..=9);

/// Media types in a list.
pub(crate) const CONTENT_TYPES: RangeInclusive<usize> = 1..=64;

/// Some hundred encoders. Beyond that many responses at a time, the processor is the bottleneck.
pub(crate) const COMPRESSION_MEMORY_MAX: NumberBounds = numbers(256 << 20, 4 << 20..=64 << 30);

/// A handshake takes two round trips and a signature; 10 s hold on the slowest radio link.
pub(crate) const HANDSHAKE_TIMEOUT: DurationBounds = durations(secs(10), millis(100)..=secs(300));

/// A head fits a few packets. What takes longer is an attack that keeps connections busy (slowloris).
pub(crate) const HEADER_TIMEOUT: DurationBounds = durations(secs(10), millis(100)..=secs(300));

/// Between two reads: retransmissions of a bad link are over after 30 s.
pub(crate) const BODY_TIMEOUT: DurationBounds = durations(secs(30), millis(100)..=secs(3600));

/// Between two requests. Parked connections cost little, so long pauses are allowed.
pub(crate) const IDLE_TIMEOUT: DurationBounds = durations(secs(60), millis(100)..=secs(86_400));

/// No bound by default: a new connection costs an mTLS handshake, the dearest thing we do.
pub(crate) const REQUESTS_PER_CONNECTION_MAX: NumberBounds = numbers(u64::MAX, 1..=u64::MAX);

/// No bound by default, for the same reason; 30 days are longer than any sensible connection.
pub(crate) const CONNECTION_AGE_MAX: DurationBounds = durations(secs(60), secs(1)..=secs(30 * 86_400));

/// Notifications may be hours apart, and a peer that is gone for good is noticed sooner by most: nginx's 60 s is a well-known
/// surprise, HAProxy's manual has an hour.
pub(crate) const TUNNEL_IDLE_TIMEOUT: DurationBounds = durations(secs(3600), millis(100)..=secs(7 * 86_400));

/// As that of connections.
pub(crate) const TUNNEL_AGE_MAX: DurationBounds = durations(secs(86_400), secs(1)..=secs(30 * 86_400));

/// A route that switches to more than a few protocols has not said what it is for.
pub(crate) const UPGRADES: RangeInclusive<usize> = 1..=8;

/// A client that is not known yet can make us check one signature for each intermediate that it sends: 4 cost 0.24 ms,
/// 64 would cost 5.7 ms. Real chains have one or two.
pub(crate) const INTERMEDIATES_MAX: NumberBounds = numbers(4, 0..=4);

/// A working day without a new proof of possession; a month is the life of a certificate that is hardly renewed at all.
pub(crate) const MAX_AUTH_AGE: DurationBounds = durations(secs(8 * 3600), secs(60)..=secs(30 * 86_400));

/// A responder answers within a round trip or two; the client waits meanwhile, and its own patience ends at 10 s.
pub(crate) const OCSP_TIMEOUT: DurationBounds = durations(secs(2), millis(100)..=secs(10));

/// CAs publish a list each day or week and allow for a few days of trouble; after a week of it a list says nothing.
pub(crate) const CRL_STALE: DurationBounds = durations(secs(0), secs(60)..=secs(7 * 86_400));

/// The shortest life of a list in use is about an hour. More often than once a minute is a load test of the CA.
pub(crate) const CRL_REFRESH: DurationBounds = durations(secs(3600), secs(60)..=secs(86_400));

/// 35 MB hold a million entries. The list is in memory whole while it is read.
pub(crate) const CRL_BYTES_MAX: NumberBounds = numbers(64 << 20, 1 << 10..=256 << 20);

/// The library verifies signatures of 2048 to 8192 bits and of no other length.
pub(crate) const RSA_BITS_MIN: NumberBounds = numbers(2048, 2048..=8192);

/// More intermediates than `intermediates_max` could ever allow are refused before.
pub(crate) const PATH_LENGTH_MAX: NumberBounds = numbers(4, 0..=4);

/// From certificates of a minute to those of ten years.
pub(crate) const LEAF_LIFETIME_MAX: DurationBounds = durations(secs(0), secs(60)..=secs(3650 * 86_400));

/// Without revocation for longer than a day, the revocation is not in force but a memory.
pub(crate) const SUSPENSION_MAX: Duration = secs(86_400);

/// Alerts that are silent for longer than a day are missed.
pub(crate) const MAINTENANCE_MAX: Duration = secs(86_400);
/// A sentence.
pub(crate) const MAINTENANCE_REASON_BYTES: RangeInclusive<usize> = 1..=200;

/// Every list in the file is bounded, so that a generated file with a fault in its loop is noticed.
pub(crate) const PATHS: RangeInclusive<usize> = 1..=64;
/// Addresses of one listener.
pub(crate) const BINDS: RangeInclusive<usize> = 1..=64;
/// Addresses and networks of load balancers in front of one listener.
pub(crate) const LOAD_BALANCERS: RangeInclusive<usize> = 1..=256;
/// Identities of load balancers in front of one host.
pub(crate) const FORWARDERS: RangeInclusive<usize> = 1..=16;
/// Without a default: as many as their addresses tell. Nobody has more than a content network, a load balancer and a mesh or two.
pub(crate) const CLIENT_ADDRESS_HOPS: NumberBounds = numbers(1, 1..=16);
/// Endpoints of one cluster.
pub(crate) const ENDPOINTS: RangeInclusive<usize> = 1..=1024;
/// An eighth of a percent of a cluster's requests can be told apart, and a round of 256 endpoints is still short enough to be
/// written down (`ringward_proxy`, `upstream/shares.rs`).
pub(crate) const ENDPOINT_WEIGHT: NumberBounds = numbers(1, 1..=256);
/// Servers of DNS: resolv.conf(5) allows three.
pub(crate) const DNS_SERVERS: RangeInclusive<usize> = 1..=8;
/// The floor keeps answers with a TTL of 0 from being a load test of the server.
pub(crate) const DNS_TTL_MIN: DurationBounds = durations(secs(5), millis(100)..=secs(3600));
/// Operators who move a server do not wait for longer than minutes; a TTL of a day is rather forgotten than meant.
pub(crate) const DNS_TTL_MAX: DurationBounds = durations(secs(300), secs(1)..=secs(86_400));
/// Without a default: unlimited, since an outage of DNS need not become ours.
pub(crate) const DNS_STALE_MAX: DurationBounds = durations(secs(3600), secs(1)..=secs(30 * 86_400));
/// RFC 1035 §2.3.4, without the dot at the end.
pub(crate) const DNS_NAME_CHARS_MAX: usize = 253;
pub(crate) const PORT: NumberBounds = numbers(0, 1..=65_535);
/// Without a default: none. Caches are warm within the hour, or need something else.
pub(crate) const SLOW_START: DurationBounds = durations(secs(30), secs(1)..=secs(3600));
/// As many as operators tell apart; Envoy has 128.
pub(crate) const ENDPOINT_PRIORITY: NumberBounds = numbers(0, 0..=15);
/// Characters of the name of a header or cookie by which endpoints are chosen.
pub(crate) const HASH_KEY_NAME_CHARS_MAX: usize = 128;
/// Statuses, or ranges of them, with which a check of an endpoint passes.
pub(crate) const HEALTH_CHECK_EXPECT: RangeInclusive<usize> = 1..=16;
/// Characters of the path that a check asks for.
pub(crate) const HEALTH_CHECK_TARGET_CHARS_MAX: usize = 1024;
/// Characters of the service that a check asks about; its length is one byte of the question.
pub(crate) const GRPC_SERVICE_CHARS_MAX: usize = 127;
/// Policies of one host or route: each that has to be evaluated may take its whole time budget.
pub(crate) const POLICIES: RangeInclusive<usize> = 1..=8;
/// Names of one virtual host.
pub(crate) const HOST_NAMES: RangeInclusive<usize> = 1..=1000;
/// Trust bundles of one tenant, and of one list of load balancers.
pub(crate) const TRUST_BUNDLES: RangeInclusive<usize> = 1..=16;
/// `[[include]]` of one file.
pub(crate) const INCLUDES: usize = 64;
/// Names that the files of one `[[include]]` may use.
pub(crate) const INCLUDE_NAMES: RangeInclusive<usize> = 1..=64;
/// Included files in all; a thousand partners with one each are fewer.
pub(crate) const INCLUDED_FILES: usize = 4096;
/// Trust bundles and tenants of one host. For a client that is not known yet each bundle is looked into, which takes some tens of
/// nanoseconds; partners with a CA of their own each come to more than a few.
pub(crate) const OF_HOST: RangeInclusive<usize> = 1..=256;
/// Conditions of one tenant.
pub(crate) const TENANT_RULES: RangeInclusive<usize> = 1..=64;
/// Tenants: each is a label of metrics.
pub(crate) const TENANTS_MAX: usize = 4096;
/// Conditions of all tenants: each is compared with every other, which takes about a second for so many.
pub(crate) const TENANT_RULES_MAX: usize = 16_384;
/// Characters of the text of a condition; RFC 5280 allows attributes 64, and a name may have several.
pub(crate) const TENANT_TEXT_CHARS_MAX: usize = 512;
/// Pins of one bundle: with a single one the loss of its key would lock everybody out.
/// More upstreams than a cluster has kinds of.
pub(crate) const SPIFFE_IDS: RangeInclusive<usize> = 1..=64;
pub(crate) const PINS: RangeInclusive<usize> = 2..=64;
/// Certificates of one host: one for each kind of key that clients can verify, and one to spare.
pub(crate) const CERTIFICATES: RangeInclusive<usize> = 1..=4;
/// Certificate policies of which a leaf must carry one.
pub(crate) const CERTIFICATE_POLICIES: RangeInclusive<usize> = 0..=16;
/// URLs of one bundle.
pub(crate) const URLS: RangeInclusive<usize> = 1..=64;
/// Hosts that may be asked on behalf of one bundle.
pub(crate) const HOSTS: RangeInclusive<usize> = 1..=64;
/// `sun_path` has 108 bytes, the last of which is NUL (unix(7)).
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The name of a file (`NAME_MAX`), which is what a systemd credential is.
pub(crate) const CREDENTIAL_NAME_BYTES_MAX: usize = 255;
/// Methods of one route.
pub(crate) const METHODS: RangeInclusive<usize> = 1..=32;
/// Header fields, or parameters, that one route asks for; each costs a look at every field of a request.
pub(crate) const CONDITIONS: RangeInclusive<usize> = 1..=16;
/// Bytes of a text that a route asks for.
pub(crate) const CONDITION_BYTES_MAX: usize = 1024;
/// Regular expressions for paths of one host: a request that none takes is held against all of them.
pub(crate) const REGEXES_MAX: usize = 64;
/// Clusters among which a route divides its requests.
pub(crate) const SPLIT_CLUSTERS: RangeInclusive<usize> = 2..=16;
/// Weight of such a cluster.
pub(crate) const SPLIT_WEIGHT: NumberBounds = numbers(0, 0..=10_000);
/// Copies of requests.
pub(crate) const MIRROR_PERCENT: NumberBounds = numbers(100, 0..=100);
/// Longer than good answers take; a copy holds its place among the others for as long.
pub(crate) const MIRROR_TIMEOUT: DurationBounds = durations(secs(10), millis(1)..=secs(300));
/// A few reads, for a cluster that has yet to be connected to. Two of the largest at least.
pub(crate) const MIRROR_BODY_HELD_MAX: NumberBounds = numbers(256 << 10, 128 << 10..=16 << 20);
/// With 256 KiB each, 25 MiB of bodies.
pub(crate) const MIRROR_REQUESTS_MAX: NumberBounds = numbers(100, 1..=100_000);
/// Origins, or names of fields, in a list of `cors`.
pub(crate) const CORS_LIST: RangeInclusive<usize> = 1..=64;
/// How long browsers remember a preflight.
pub(crate) const CORS_MAX_AGE: DurationBounds = durations(secs(300), secs(0)..=secs(86_400));
/// Fields that a host or route sets, appends or removes.
pub(crate) const HEADER_EDITS: RangeInclusive<usize> = 1..=32;
/// Name of such a field.
pub(crate) const HEADER_NAME_BYTES_MAX: usize = 128;
/// Value of such a field, as it is written.
pub(crate) const HEADER_VALUE_BYTES_MAX: usize = 1024;
/// Places in such a value.
pub(crate) const HEADER_PLACES_MAX: usize = 8;
/// Bytes of a redirect's template; clients take URLs of 8 KiB, and the places grow.
pub(crate) const REDIRECT_BYTES_MAX: usize = 2048;
/// Bytes of a body that stands in the configuration. Each answer copies it.
pub(crate) const RESPONSE_BODY_BYTES_MAX: usize = 64 << 10;
/// Certificate extensions that policies see; each is kept per connection.
pub(crate) const EXTENSIONS: RangeInclusive<usize> = 0..=16;
/// Characters of an object identifier; the longest in use have about 60.
pub(crate) const OBJECT_ID_CHARS_MAX: usize = 128;
/// Labels of one route; each is part of every policy input.
pub(crate) const LABELS_MAX: usize = 32;
/// Characters of a label's text.
pub(crate) const LABEL_CHARS_MAX: usize = 256;
/// Characters of a name that the operator chose. Prometheus labels and log fields stay readable.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Characters of our name in `Via`.
pub(crate) const VIA_CHARS_MAX: usize = 64;

/// A configuration of 10,000 routes has about 2 MB. Larger files are read by mistake.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;

const fn durations(default: Duration, bounds: RangeInclusive<Duration>) -> DurationBounds {
    DurationBounds { default, min: *bounds.start(), max: *bounds.end() }
}

const fn numbers(default: u64, bounds: RangeInclusive<u64>) -> NumberBounds {
    NumberBounds { default, min: *bounds.start(), max: *bounds.end() }
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}
