"""httpx (over hyper-h2) as a client in HTTP/2. Arguments: port, CA, certificate, key. Prints one word per step."""

import asyncio
import hashlib
import socket
import ssl
import sys

import httpx

port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)


def client(certificate):
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(cert, key)
    return httpx.AsyncClient(http1=False, http2=True, verify=context, trust_env=False, timeout=20)


def url(host, path):
    return f"https://{host}:{port}{path}"


STRICT, OPTIONAL = "api.example.com", "optional.example.com"


async def main():
    partner, anonymous = client(True), client(False)
    words = []
    for response in (
        await partner.get(url(STRICT, "/a")),
        await anonymous.get(url(OPTIONAL, "/public")),
        await anonymous.get(url(OPTIONAL, "/private")),
        await anonymous.get(url(OPTIONAL, "/public"), headers={"Host": STRICT}),
    ):
        assert response.http_version == "HTTP/2", response.http_version
        words.append(response.status_code)
    try:
        words.append((await anonymous.get(url(STRICT, "/a"))).status_code)
    except (httpx.TransportError, ssl.SSLError):
        words.append("refused")

    body = bytes(range(256)) * 4096 * 20

    async def pieces():
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    for content in (body, pieces()):
        echo = (await partner.post(url(STRICT, "/upload"), content=content)).json()
        assert echo["body_sha256"] == hashlib.sha256(body).hexdigest(), echo
    words.append("upload-ok")

    big = [partner.get(url(STRICT, f"/{kind}/{100_000 + n}")) for n in range(25) for kind in ("big", "big-chunked")]
    sizes = sorted(len(response.content) for response in await asyncio.gather(*big))
    assert sizes == sorted([100_000 + n for n in range(25)] * 2), sizes
    # Leaves a response in the middle. httpx does not reset the stream, nor give back what it used of the connection's window.
    async with partner.stream("GET", url(STRICT, "/big/5000000")) as response:
        async for _ in response.aiter_bytes():
            break
    for path, status in (("/x", 200), ("/status/204", 204), ("/trailers", 200)):
        assert (await partner.get(url(STRICT, path))).status_code == status, path
    words.append("streams-ok")
    await partner.aclose()
    await anonymous.aclose()
    print(*words)


asyncio.run(main())
