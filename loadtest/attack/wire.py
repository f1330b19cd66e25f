"""Frames of HTTP/2 (RFC 9113) by hand, connections with a client certificate, and the honest client."""
import select
import socket
import ssl
import subprocess
import time

HOST = "api.example.com"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 9113 §6.5.2.
INITIAL_WINDOW_SIZE = 4

# Where the certificates are.
directory = None


def write_certificates(path):
    """An authority, and certificates of it for a server and for a client."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=path, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        extensions = f"subjectAltName=DNS:{HOST}\nextendedKeyUsage={usage}\nbasicConstraints=critical,CA:false\n"
        (path / f"{name}.ext").write_text(extensions)
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")


def connect(port, alpn="h2"):
    context = ssl.create_default_context(cafile=directory / "root.pem")
    context.load_cert_chain(directory / "client.pem", directory / "client.key")
    context.set_alpn_protocols([alpn])
    stream = socket.create_connection(("127.0.0.1", port), timeout=5)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(stream, server_hostname=HOST)


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def length(number):
    """RFC 7541 §5.1, with a prefix of seven bits."""
    if number < 127:
        return bytes([number])
    encoded, number = b"\x7f", number - 127
    while number >= 128:
        encoded, number = encoded + bytes([number % 128 + 128]), number // 128
    return encoded + bytes([number])


def field(name, value, form=b"\0"):
    """RFC 7541 §6.2.2: a literal that no table remembers; §6.2.1 with the form 0x40: one that does."""
    return form + length(len(name)) + name + length(len(value)) + value


def block(path, method=b"GET"):
    """The fields of a request."""
    fields = {b":method": method, b":scheme": b"https", b":path": path, b":authority": HOST.encode()}
    return b"".join(field(name, value) for name, value in fields.items())


def request(stream, path, method=b"GET"):
    """A whole request, or the head of one with a body."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if method == b"GET" else 0), stream, block(path, method))


def settings(window=None):
    return frame(SETTINGS, 0, 0, b"" if window is None else INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big"))


def window_update(stream, by):
    return frame(WINDOW_UPDATE, 0, stream, by.to_bytes(4, "big"))


class Ended(Exception):
    """The gateway has ended the connection."""


class Connection:
    """A connection of an attacker, which sends what it likes."""

    def __init__(self, port, window=None):
        self.socket, self.received, self.stream = connect(port), bytearray(), -1
        self.send(PREFACE + settings(window) + window_update(0, 0x7fff_0000) + frame(SETTINGS, 1, 0))

    def next(self):
        """The number of the next stream."""
        self.stream += 2
        return self.stream

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Ended from error

    def frames(self, wait=0):
        """The frames that are there, or come soon, as (kind, flags, stream). Raises at the end."""
        self.socket.settimeout(wait)
        try:
            while data := self.socket.recv(65_536):
                self.received += data
                self.socket.settimeout(0)
            raise Ended
        except (ssl.SSLWantReadError, TimeoutError):
            pass
        except OSError as error:
            raise Ended from error
        finally:
            self.socket.settimeout(5)
        frames, at = [], 0
        while len(self.received) >= at + 9:
            size = int.from_bytes(self.received[at:at + 3], "big")
            if len(self.received) < at + 9 + size:
                break
            frames.append((self.received[at + 3], self.received[at + 4], int.from_bytes(self.received[at + 5:at + 9], "big")))
            at += 9 + size
        del self.received[:at]
        if any(kind == GOAWAY for kind, _, _ in frames):
            raise Ended
        return frames

    def close(self):
        self.socket.close()


class Honest:
    """One connection of the honest client, over which it makes one request at a time."""

    def __init__(self, port, is_http2):
        self.socket, self.is_http2, self.stream, self.received = connect(port, "h2" if is_http2 else "http/1.1"), is_http2, 1, b""
        if is_http2:
            self.socket.sendall(PREFACE + settings() + window_update(0, 0x7fff_0000))
        self.socket.setblocking(False)
        self.due = None

    def ask(self, due):
        self.due = due
        if self.is_http2:
            self.socket.send(request(self.stream, b"/honest"))
        else:
            self.socket.send(f"GET /honest HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())

    def answered(self):
        """Takes what has arrived; whether that is the answer."""
        try:
            while data := self.socket.recv(65_536):
                self.received += data
            raise Ended("an honest client was cut off")
        except ssl.SSLWantReadError:
            pass
        return self.is_whole_http2() if self.is_http2 else self.is_whole_http1()

    def is_whole_http1(self):
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < 16:
            return False
        assert head.startswith(b"HTTP/1.1 200"), head
        self.received = b""
        return True

    def is_whole_http2(self):
        whole = False
        while len(self.received) >= 9:
            end = 9 + int.from_bytes(self.received[:3], "big")
            if len(self.received) < end:
                break
            kind, flags, stream = self.received[3], self.received[4], int.from_bytes(self.received[5:9], "big")
            if kind == SETTINGS and not flags & 1:
                self.socket.send(frame(SETTINGS, 1, 0))
            assert kind not in (RST_STREAM, GOAWAY), "an honest client was refused"
            whole |= kind == DATA and stream == self.stream and bool(flags & END_STREAM)
            self.received = self.received[end:]
        self.stream += 2 if whole else 0
        return whole


def ask_at_rate(clients, rate, seconds):
    """How long the answers took. A request that has to wait for a free connection has begun when it was due."""
    times, free, poll = [], list(clients), select.epoll()
    by_number = {client.socket.fileno(): client for client in clients}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    began = time.monotonic()
    count, last = 0, int(rate * seconds)
    while len(times) < last and time.monotonic() < began + seconds + 5:
        now = time.monotonic()
        due = began + count / rate
        while count < last and due <= now and free:
            free.pop(0).ask(due)
            count += 1
            due = began + count / rate
        wait = max(0, due - time.monotonic()) if count < last and free else 0.1
        for number, _ in poll.poll(wait):
            client = by_number[number]
            if client.answered() and client.due is not None:
                times.append(time.monotonic() - client.due)
                client.due = None
                free.append(client)
    # What has not come is as late as that.
    return times + [seconds + 5] * (last - len(times))
