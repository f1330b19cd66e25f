//! Counts the frames that a peer of HTTP/2 sends, by what they cost it and us.
//!
//! Some frames are all but free to send and make us work: each has a budget that grows slowly with time, and with what an
//! honest client gets served. The `h2` crate has bounds of its own for what only it can see (resets that the client provokes,
//! streams that are reset before they are taken on, small DATA frames). Frames are read on their way to it, in whatever pieces
//! they arrive; nothing is changed or held back.

/// What a peer has sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// RST_STREAM: requests that are begun and called off (CVE-2023-44487).
    Resets,
    /// SETTINGS, each of which is acknowledged (CVE-2019-9515).
    Settings,
    /// PING, as well (CVE-2019-9512).
    Pings,
    /// WINDOW_UPDATE.
    WindowUpdates,
    /// PRIORITY, and frames without any meaning for a server.
    Idle,
    /// DATA without data (CVE-2019-9518).
    EmptyData,
    /// HEADERS that come to no answer: refused, malformed, too large, called off; and DATA that only ends a stream.
    Heads,
    /// CONTINUATION without end (CVE-2024-27316 and others).
    Continuations,
}

/// Where a connection is in its frames, and what it may still send.
#[derive(Debug)]
pub struct FrameMeter {
    /// Bytes of the preface that are yet to come.
    preface_left: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    payload_left: usize,
    /// A head has begun and not ended.
    head_open: bool,
    continuations: usize,
    continuations_max: usize,
    heads_max: u64,
    heads_per_request: u64,
    last_stream: u32,
    /// Streams that the client has opened.
    opened: u64,
    budgets: [Budget; BUDGETS.len()],
}

/// A budget of frames, in thousandths.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: u64,
    /// When it last grew, in milliseconds.
    grown_at: u64,
}

impl FrameMeter {
    /// For a connection that begins at `now`, in milliseconds, whose heads have at most so many bytes, and which may have so many
    /// streams at a time.
    pub fn new(head_bytes_max: usize, streams_max: usize, now: u64) -> FrameMeter {
        FrameMeter::with(PREFACE_BYTES, head_bytes_max, streams_max, HEADS_PER_REQUEST, now)
    }

    /// As [`FrameMeter::new`], for what a server sends: it begins without a preface, and has more to say to a request.
    pub fn of_server(head_bytes_max: usize, streams_max: usize, now: u64) -> FrameMeter {
        FrameMeter::with(0, head_bytes_max, streams_max, HEADS_PER_RESPONSE, now)
    }

    fn with(
        preface_left: usize,
        head_bytes_max: usize,
        streams_max: usize,
        heads_per_request: u64,
        now: u64,
    ) -> FrameMeter {
        let heads_max = HEADS_SPARE + heads_per_request * streams_max as u64;
        let mut budgets = BUDGETS.map(|(most, _)| Budget { left: most * ONE, grown_at: now });
        budgets[Flood::Heads as usize].left = heads_max * ONE;
        FrameMeter {
            preface_left,
            header: [0; HEADER_BYTES],
            header_filled: 0,
            payload_left: 0,
            head_open: false,
            continuations: 0,
            continuations_max: CONTINUATIONS_SPARE + head_bytes_max / FRAME_BYTES,
            heads_max,
            heads_per_request,
            last_stream: 0,
            opened: 0,
            budgets,
        }
    }

    /// Looks at bytes that have arrived, up to the end of so many frames; how many bytes that are, and how many frames have begun
    /// in them.
    ///
    /// # Errors
    /// What there is too much of. The bytes must not go on then.
    pub fn feed(&mut self, arrived: &[u8], frames_max: usize, now: u64) -> Result<(usize, usize), Flood> {
        let (mut bytes, mut frames) = (arrived, 0);
        skip(&mut bytes, &mut self.preface_left);
        while !bytes.is_empty() {
            skip(&mut bytes, &mut self.payload_left);
            if frames == frames_max {
                break;
            }
            let wanted = HEADER_BYTES - self.header_filled;
            let Some((part, rest)) = bytes.split_at_checked(wanted.min(bytes.len())) else { break };
            self.header[self.header_filled..self.header_filled + part.len()].copy_from_slice(part);
            self.header_filled += part.len();
            bytes = rest;
            if self.header_filled == HEADER_BYTES {
                self.header_filled = 0;
                frames += 1;
                self.frame(now)?;
            }
        }
        Ok((arrived.len() - bytes.len(), frames))
    }

    /// Whether a head has begun and not ended.
    pub fn is_head_open(&self) -> bool {
        self.head_open
    }

    /// How many streams the client has opened, whatever came of them.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// A request was answered to its end: an honest client may make another, call others off, and move its windows.
    pub fn served(&mut self) {
        self.grant(Flood::Heads, self.heads_per_request);
        self.grant(Flood::Resets, 1);
        self.grant(Flood::WindowUpdates, WINDOW_UPDATES_PER_FRAME);
        self.grant(Flood::Idle, 1);
    }

    /// Data was sent, whose reception the client may confirm, and measure with a ping. `cut` if its window had no room for the
    /// rest: who gives so little at a time pays for it.
    pub fn sent_data(&mut self, bytes: usize, cut: bool) {
        if !cut || bytes >= WINDOW_LEAST {
            self.grant(Flood::WindowUpdates, WINDOW_UPDATES_PER_FRAME);
            self.grant(Flood::Pings, 1 + (bytes / FRAME_BYTES) as u64);
        }
    }

    /// A frame of which all but the payload is known.
    fn frame(&mut self, now: u64) -> Result<(), Flood> {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let (ends_stream, ends_head) = (flags & 0x1 != 0, flags & 0x4 != 0);
        let spent = match kind {
            // Padding is payload: what is only padding counts as data, which flow control bounds.
            DATA if self.payload_left == 0 && !ends_stream => Flood::EmptyData,
            // In the place of trailers: once per request.
            DATA if self.payload_left == 0 => Flood::Heads,
            DATA => return Ok(()),
            HEADERS => {
                (self.head_open, self.continuations) = (!ends_head, 0);
                // RFC 9113 §5.1.1: each new one has a larger number; else it is trailers, or an error.
                let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
                if stream > self.last_stream {
                    self.last_stream = stream;
                    self.opened += 1;
                }
                Flood::Heads
            }
            CONTINUATION => {
                self.head_open &= !ends_head;
                self.continuations += 1;
                let is_flood = self.continuations > self.continuations_max;
                return if is_flood { Err(Flood::Continuations) } else { Ok(()) };
            }
            RST_STREAM => Flood::Resets,
            SETTINGS => Flood::Settings,
            PING => Flood::Pings,
            WINDOW_UPDATE => Flood::WindowUpdates,
            _ => Flood::Idle,
        };
        self.spend(spent, now)
    }

    fn spend(&mut self, kind: Flood, now: u64) -> Result<(), Flood> {
        let (most, per_second) = (self.most(kind), BUDGETS[kind as usize].1);
        let budget = &mut self.budgets[kind as usize];
        let grown = now.saturating_sub(budget.grown_at).saturating_mul(per_second);
        budget.left = budget.left.saturating_add(grown).min(most * ONE);
        budget.grown_at = now;
        budget.left = budget.left.checked_sub(ONE).ok_or(kind)?;
        Ok(())
    }

    fn grant(&mut self, kind: Flood, frames: u64) {
        let most = self.most(kind);
        let budget = &mut self.budgets[kind as usize];
        budget.left = (budget.left + frames * ONE).min(most * ONE);
    }

    fn most(&self, kind: Flood) -> u64 {
        if kind == Flood::Heads { self.heads_max } else { BUDGETS[kind as usize].0 }
    }
}

/// Passes over what is left of something, as far as it is there.
fn skip(bytes: &mut &[u8], left: &mut usize) {
    let n = bytes.len().min(*left);
    *left -= n;
    *bytes = &bytes[n..];
}

/// For each kind of [`Flood`] but the last: how many frames at once, and how many more per second.
///
/// - Resets: a page that is left while everything loads calls all of its requests off, twice the streams of the default; then
///   20 per second, and one for each request that was answered.
/// - Settings: clients send one, some change their window once or twice.
/// - Pings: gRPC measures with them while data moves. grpc-go does so all the time, with one for each round trip, so there is one
///   for each frame of data; its servers forgive pings in the same way.
/// - Window updates: two for each frame of data that they confirm is what libraries do; see [`WINDOW_UPDATES_PER_FRAME`].
/// - Idle: Firefox opens with a handful of PRIORITY frames, old clients send one per request.
/// - Empty data: a library that flushes without data does it now and then.
/// - Heads: those of as many requests as may run, with their trailers, besides what is said here: a page called off, and what a
///   client asks for before it knows how much it may.
const BUDGETS: [(u64, u64); 7] =
    [(200, 20), (20, 1), (100, 10), (2000, 50), (200, 20), (100, 10), (HEADS_SPARE, 20)];
const HEADS_SPARE: u64 = 200;
/// Its own and that of its trailers.
const HEADS_PER_REQUEST: u64 = 2;
/// Its own, that of its trailers, and those of interim responses.
const HEADS_PER_RESPONSE: u64 = 18;
/// For the stream and for the connection, and as much again.
const WINDOW_UPDATES_PER_FRAME: u64 = 4;
/// A window smaller than this has us send more frame than data, and no library of today's opens so little at a time.
const WINDOW_LEAST: usize = 512;
/// CONTINUATION frames beyond those that full frames would need.
const CONTINUATIONS_SPARE: usize = 8;
/// The frame size that we accept (RFC 9113 §4.2: the least).
const FRAME_BYTES: usize = 16 * 1024;
const ONE: u64 = 1000;

/// RFC 9113 §3.4.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// RFC 9113 §4.1.
const HEADER_BYTES: usize = 9;
// RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + payload, 0xff);
        frame
    }

    fn begun() -> FrameMeter {
        let mut meter = FrameMeter::new(32 * 1024, 100, 0);
        meter.feed(&[b'P'; PREFACE_BYTES], usize::MAX, 0).unwrap();
        meter
    }

    /// How many frames pass at one moment.
    fn passed(meter: &mut FrameMeter, frame: &[u8], now: u64) -> (u64, Option<Flood>) {
        for count in 0..10_000 {
            if let Err(flood) = meter.feed(frame, usize::MAX, now) {
                return (count, Some(flood));
            }
        }
        (10_000, None)
    }

    #[test]
    fn each_kind_has_a_budget() {
        for (kind, flags, payload, most, flood) in [
            (RST_STREAM, 0, 4, 200, Flood::Resets),
            (SETTINGS, 0, 6, 20, Flood::Settings),
            (SETTINGS, 1, 0, 20, Flood::Settings),
            (PING, 0, 8, 100, Flood::Pings),
            (WINDOW_UPDATE, 0, 4, 2000, Flood::WindowUpdates),
            (2, 0, 5, 200, Flood::Idle),
            (0x10, 0, 5, 200, Flood::Idle),
            (0xfa, 0, 0, 200, Flood::Idle),
            (DATA, 0, 0, 100, Flood::EmptyData),
            (HEADERS, 4, 10, 400, Flood::Heads),
            (DATA, 1, 0, 400, Flood::Heads),
        ] {
            assert_eq!(passed(&mut begun(), &frame(kind, flags, payload), 0), (most, Some(flood)), "{kind}");
        }
        for (kind, flags, payload) in [(DATA, 0, 1), (DATA, 1, 1)] {
            assert_eq!(passed(&mut begun(), &frame(kind, flags, payload), 0), (10_000, None), "{kind}");
        }
    }

    #[test]
    fn budgets_grow_with_time_and_with_what_is_served_up_to_where_they_began() {
        // Without payload: after a refusal, what would follow is not read.
        let reset = frame(RST_STREAM, 0, 0);
        let mut meter = begun();
        assert_eq!(passed(&mut meter, &reset, 0).0, 200);
        assert_eq!(passed(&mut meter, &reset, 500).0, 10);
        meter.served();
        assert_eq!(passed(&mut meter, &reset, 500).0, 1);
        assert_eq!(passed(&mut meter, &reset, 3_600_000).0, 200);
        let window_update = frame(WINDOW_UPDATE, 0, 0);
        assert_eq!(passed(&mut meter, &window_update, 0).0, 2000);
        for (bytes, cut, granted) in [(100, false, 4), (WINDOW_LEAST, true, 4), (WINDOW_LEAST - 1, true, 0)] {
            meter.sent_data(bytes, cut);
            assert_eq!(passed(&mut meter, &window_update, 0).0, granted, "{bytes} {cut}");
        }
        let ping = frame(PING, 0, 0);
        assert_eq!(passed(&mut meter, &ping, 0).0, 100, "and no more than at the beginning");
        for (bytes, cut, granted) in [(1, false, 1), (64 * 1024, false, 5), (1, true, 0)] {
            meter.sent_data(bytes, cut);
            assert_eq!(passed(&mut meter, &ping, 0).0, granted, "{bytes} {cut}");
        }
        let head = frame(HEADERS, 4, 0);
        assert_eq!(passed(&mut meter, &head, 0).0, 400);
        meter.served();
        assert_eq!(passed(&mut meter, &head, 0).0, 2);
    }

    #[test]
    fn heads_end_after_as_many_frames_as_they_may_need() {
        let mut meter = begun();
        meter.feed(&frame(HEADERS, 0, 100), usize::MAX, 0).unwrap();
        assert!(meter.is_head_open());
        for _ in 0..10 {
            meter.feed(&frame(CONTINUATION, 0, 1), usize::MAX, 0).unwrap();
        }
        meter.feed(&frame(HEADERS, 0, 1), usize::MAX, 0).unwrap();
        meter.feed(&frame(CONTINUATION, 4, 1), usize::MAX, 0).unwrap();
        assert!(!meter.is_head_open());
        meter.feed(&frame(HEADERS, 0, 1), usize::MAX, 0).unwrap();
        let (count, flood) = passed(&mut meter, &frame(CONTINUATION, 0, 0), 0);
        assert_eq!((count, flood), (10, Some(Flood::Continuations)));
    }

    #[test]
    fn streams_are_counted_by_their_numbers() {
        let mut meter = begun();
        for (stream, opened) in [(1, 1), (1, 1), (5, 2), (3, 2), (0x8000_0005, 2), (0xffff_ffff, 3)] {
            let mut head = frame(HEADERS, 4, 0);
            head[5..].copy_from_slice(&u32::to_be_bytes(stream));
            meter.feed(&head, usize::MAX, 0).unwrap();
            assert_eq!(meter.opened(), opened, "{stream}");
        }
    }

    #[test]
    fn frames_are_found_however_the_bytes_arrive() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for _ in 0..21 {
            // The payload of the second looks like frames that it is not.
            bytes.extend(frame(DATA, 0, 0));
            bytes.extend(frame(HEADERS, 4, 40));
            bytes.extend(frame(SETTINGS, 0, 12));
        }
        for step in [1, 2, 7, 8, 9, 10, 64, bytes.len()] {
            let mut meter = FrameMeter::new(1024, 100, 0);
            let mut fed = 0;
            let flood = bytes.chunks(step).find_map(|piece| {
                fed += piece.len();
                meter.feed(piece, usize::MAX, 0).err()
            });
            assert_eq!(flood, Some(Flood::Settings), "in steps of {step}");
            // The header of the last frame is there, and not what is behind it, but for the step.
            assert!((bytes.len() - 12..bytes.len() + step).contains(&fed), "in steps of {step}: {fed}");
        }
    }

    #[test]
    fn bytes_are_taken_up_to_the_end_of_a_frame() {
        let bytes = [frame(DATA, 0, 5), frame(PING, 0, 8), frame(DATA, 0, 0), frame(DATA, 0, 3)].concat();
        let mut meter = begun();
        assert_eq!(meter.feed(&bytes, 2, 0), Ok((14 + 17, 2)));
        // Of a frame that is not whole, what there is.
        assert_eq!(meter.feed(&bytes[31..42], 2, 0), Ok((11, 1)));
        assert_eq!(meter.feed(&bytes[42..], 1, 0), Ok((10, 1)));
        assert_eq!(meter.feed(&[], 1, 0), Ok((0, 0)));
    }
}
