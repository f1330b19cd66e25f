"""The clients of a soak. Each does one thing over and over, on a thread of its own, and judges every answer.

What an answer has to be depends on what is in force: `Facts` knows that for each moment. While something changes, the old and the new
answer are both right; as soon as the gateway says that the change is in force, only the new one is.
"""
import base64
import hashlib
import http.client
import json
import os
import random
import socket
import ssl
import threading
import time

from wire import (DATA, END_STREAM, GOAWAY, HEADERS, HOST, PING, PREFACE, RST_STREAM, SETTINGS, frame, request, settings,
                  window_update)

REFUSED = "refused"
# What clients may be told while an upstream is being killed, apart from the right answer: deploy/resilience.md.
UPSTREAM_FAILED = {502, 503}
# Of wrong answers, so that the first ones can be found.
SHOWN = 50


class Facts:
    """What is in force, with its history: for each name, the values that were right since a moment."""

    def __init__(self, **values):
        self.lock = threading.Lock()
        self.history = {name: [(0.0, frozenset([value]))] for name, value in values.items()}

    def change(self, name, value):
        """From now on the old value is right and this one."""
        with self.lock:
            self.history[name].append((time.monotonic(), self.history[name][-1][1] | {value}))

    def settle(self, name, value):
        """From now on only this value is right. What nobody can still ask about is forgotten."""
        with self.lock:
            now = time.monotonic()
            known = self.history[name]
            recent = [entry for entry in known if entry[0] > now - 60]
            self.history[name] = known[-len(recent) - 1:] + [(now, frozenset([value]))]

    def during(self, name, begin):
        """The values that were right at some moment since `begin`."""
        with self.lock:
            known = self.history[name]
            values = set()
            for (_, value), end in zip(known, [entry[0] for entry in known[1:]] + [float("inf")]):
                if end >= begin:
                    values |= value
            return values


class Count:
    """Answers by kind, and the wrong ones."""

    def __init__(self):
        self.lock, self.kinds, self.wrong = threading.Lock(), {}, []

    def right(self, kind, what):
        with self.lock:
            self.kinds[kind, what] = self.kinds.get((kind, what), 0) + 1

    def mistake(self, kind, what):
        with self.lock:
            self.wrong.append((time.strftime("%H:%M:%S"), kind, what))
            if len(self.wrong) <= SHOWN:
                print(f"wrong at {self.wrong[-1][0]}: {kind}: {what}", flush=True)


class Client(threading.Thread):
    """A client with a certificate, or without one, that knows who may ask for what."""

    def __init__(self, soak, kind, certificate, pause):
        super().__init__(name=kind, daemon=True)
        self.soak, self.facts, self.count, self.kind, self.pause = soak, soak.facts, soak.count, kind, pause
        self.random = random.Random(f"{soak.seed} {kind} {certificate}")
        self.certificate, self.context = certificate, ssl.create_default_context(cafile=soak.directory / "servers.pem")
        self.expected = None
        if certificate:
            self.context.load_cert_chain(soak.directory / f"{certificate}.pem", soak.directory / f"{certificate}.key")
            pem = (soak.directory / f"{certificate}.pem").read_text()
            # RFC 9440 §2.2.
            self.expected = f":{base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()}:"

    def run(self):
        while not self.soak.over.is_set():
            try:
                self.once()
            except Exception as error:  # A soak ends with a list of what went wrong, and goes on until then.
                self.count.mistake(self.kind, f"{type(error).__name__}: {error}")
            self.soak.over.wait(self.pause * self.random.uniform(0.5, 1.5))

    def connect(self, session=None, alpn="http/1.1"):
        """A connection, whose certificate is the gateway's of this moment unless it resumes."""
        begin = time.monotonic()
        self.context.set_alpn_protocols([alpn])
        plain = socket.create_connection(("127.0.0.1", self.soak.port), timeout=15)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            stream = self.context.wrap_socket(plain, server_hostname=HOST, session=session)
        except BaseException:
            plain.close()
            raise
        if not stream.session_reused:
            fingerprint = hashlib.sha256(stream.getpeercert(True)).hexdigest()
            if fingerprint not in self.facts.during("server", begin):
                self.count.mistake(self.kind, "a server certificate that is not in force")
        return stream

    def allowed(self, begin):
        """Whether who this is was trusted at some moment since then, or not, or both."""
        if self.certificate in self.soak.strangers:
            return {False}
        answers = self.facts.during(self.certificate, begin) if self.certificate in self.facts.history else {True}
        return answers

    def ask(self, stream, path, method="GET", body=None):
        """The status of an answer, its body, and whether it is the last one of its connection."""
        connection = http.client.HTTPConnection(HOST)
        connection.sock = stream
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read(), response.will_close

    def exchange(self, stream, path, begin, method="GET", body=None):
        """Asks and judges. False if there is no connection any more."""
        asked = time.monotonic()
        try:
            status, text, is_last = self.ask(stream, path, method, body)
        except (ssl.SSLError, ConnectionError, http.client.HTTPException) as error:
            self.refused(begin, error)
            return False
        self.judge(status, text, path, asked, method, body)
        if is_last and status not in UPSTREAM_FAILED and False not in self.allowed(begin):
            self.count.mistake(self.kind, f"{method} {path}: the connection ends")
        return not is_last

    def refused(self, begin, error):
        if isinstance(error, TimeoutError) or False not in self.allowed(begin):
            self.count.mistake(self.kind, f"no answer: {type(error).__name__}: {error}")
        else:
            self.count.right(self.kind, REFUSED)

    def judge(self, status, text, path, begin, method="GET", body=None):
        """Whether an answer is one that was right at some moment since `begin`."""
        may = self.allowed(begin)
        permitted = set()
        if True in may:
            if path == "/denied":
                permitted = {403}
            elif path == "/flip":
                permitted = {200 if is_open else 403 for is_open in self.facts.during("flip", begin)}
            else:
                permitted = {200}
        if "failing" in self.facts.during("upstreams", begin) and 200 in permitted:
            permitted |= UPSTREAM_FAILED
        if status not in permitted:
            self.count.mistake(self.kind, f"{method} {path}: {status} instead of {sorted(permitted) or REFUSED}")
            return
        if status == 200:
            answer = json.loads(text)
            sent = hashlib.sha256(body or b"").hexdigest()
            if (answer["path"], answer["method"], answer["certificate"], answer["sha256"]) != (path, method, self.expected, sent):
                self.count.mistake(self.kind, f"{method} {path}: an answer to somebody else: {answer}")
                return
        self.count.right(self.kind, status)

    def path(self):
        return self.random.choice(["/flip", "/denied", f"/orders/{self.random.randrange(1000)}", "/a/b/c", "/"])


class Newcomer(Client):
    """A full handshake each time, or a resumed one, and some requests."""

    def __init__(self, soak, kind, certificate, pause, resumes=False):
        super().__init__(soak, kind, certificate, pause)
        self.resumes, self.session = resumes, None

    def once(self):
        begin = time.monotonic()
        try:
            stream = self.connect(self.session)
        except (ssl.SSLError, ConnectionError) as error:
            self.session = None
            self.refused(begin, error)
            return
        with stream:
            if stream.session_reused:
                self.count.right(self.kind, "resumed")
            for _ in range(self.random.randint(1, 3)):
                if not self.exchange(stream, self.path(), begin):
                    self.session = None
                    return
            # Each look at a session costs memory that Python 3.11 does not give back, and a ticket is good for more than one connection.
            if self.resumes and (self.session is None or self.random.random() < 0.1):
                self.session = stream.session


class Regular(Client):
    """One connection for as long as it lasts; every so often a body. Who is trusted keeps it, whatever else changes."""

    stream, last = None, 0.0

    def once(self):
        # What ends a connection may have happened at any time since it was used last.
        begin, self.last = self.last if self.stream else time.monotonic(), time.monotonic()
        if self.stream is None:
            try:
                self.stream = self.connect()
            except (ssl.SSLError, ConnectionError) as error:
                self.refused(begin, error)
                return
        body = os.urandom(self.random.randrange(30_000)) if self.random.random() < 0.2 else None
        path = self.path() if body is None else "/upload"
        if not self.exchange(self.stream, path, begin, "GET" if body is None else "POST", body):
            self.stream.close()
            self.stream = None


class Multiplexer(Client):
    """HTTP/2: some requests at the same time, all of which have to be served, on a connection that is replaced now and then."""

    stream, left = None, 0

    def once(self):
        if self.left == 0:
            if self.stream:
                self.stream.close()
            self.stream, self.number, self.received, self.left = self.connect(alpn="h2"), -1, b"", self.random.randint(1, 50)
            self.stream.sendall(PREFACE + settings() + window_update(0, 0x7fff_0000))
        self.left -= 1
        begin, paths = time.monotonic(), {}
        for _ in range(self.random.randint(1, 10)):
            self.number += 2
            paths[self.number] = f"/orders/{self.random.randrange(1000)}"
        self.stream.sendall(b"".join(request(number, path.encode()) for number, path in paths.items()))
        try:
            for number, (status, text) in self.answers(set(paths)).items():
                self.judge(status, text, paths[number], begin)
        except (OSError, EOFError) as error:
            self.left = 0
            self.refused(begin, error)

    def answers(self, wanted):
        heads, bodies, whole = {}, {number: b"" for number in wanted}, set()
        while whole != wanted:
            kind, flags, number, payload = self.frame()
            if kind == HEADERS:
                # RFC 7541, appendix A: 8 is `:status: 200`. Other statuses are not looked into.
                heads.setdefault(number, 200 if payload[:1] == b"\x88" else 502)
            elif kind == DATA:
                bodies[number] += payload
            elif kind == SETTINGS and not flags & 1:
                self.stream.sendall(frame(SETTINGS, 1, 0))
            elif kind == PING and not flags & 1:
                self.stream.sendall(frame(PING, 1, 0, payload))
            elif kind in (GOAWAY, RST_STREAM):
                raise EOFError(f"a frame of type {kind} for stream {number}: {payload.hex()}")
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                whole.add(number)
        return {number: (heads[number], bodies[number]) for number in wanted}

    def frame(self):
        head = self.exactly(9)
        return head[3], head[4], int.from_bytes(head[5:9], "big"), self.exactly(int.from_bytes(head[:3], "big"))

    def exactly(self, size):
        while len(self.received) < size:
            data = self.stream.recv(65_536)
            if not data:
                raise EOFError("the connection has ended")
            self.received += data
        taken, self.received = self.received[:size], self.received[size:]
        return taken


class Talker(Client):
    """A WebSocket. It ends with its upstream, and not otherwise."""

    stream, last = None, 0.0

    def once(self):
        # As with those who stay.
        begin, self.last = self.last if self.stream else time.monotonic(), time.monotonic()
        try:
            if self.stream is None:
                self.open()
            else:
                self.talk()
        except (OSError, EOFError, ValueError) as error:
            if self.stream:
                self.stream.close()
                self.stream = None
            if isinstance(error, TimeoutError) or "failing" not in self.facts.during("upstreams", begin):
                self.count.mistake(self.kind, f"{type(error).__name__}: {error}")
            else:
                self.count.right(self.kind, "ended with its upstream")

    def open(self):
        stream = self.connect()
        stream.sendall(f"GET /ws HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
                       "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = stream.recv(1)
            if not data:
                stream.close()
                raise EOFError("no answer")
            head += data
        if not head.startswith(b"HTTP/1.1 101 "):
            stream.close()
            raise ValueError(head.split(b"\r\n")[0].decode())
        self.stream = stream
        self.count.right(self.kind, 101)

    def talk(self):
        text, mask = os.urandom(self.random.randint(1, 100)), os.urandom(4)
        masked = bytes(octet ^ mask[at % 4] for at, octet in enumerate(text))
        self.stream.sendall(bytes([0x82, 0x80 | len(text)]) + mask + masked)
        answer = b""
        while len(answer) < len(text) + 2:
            data = self.stream.recv(4096)
            if not data:
                raise EOFError("the connection has ended")
            answer += data
        if answer != bytes([0x82, len(text)]) + text:
            self.count.mistake(self.kind, "an echo of something else")
        else:
            self.count.right(self.kind, "echo")
