"""The upstream of a soak: says in JSON what it was asked and for whom, and echoes on WebSockets. To be killed at any moment.

    upstream.py NAME PORT
"""
import asyncio
import base64
import hashlib
import json
import os
import sys
import threading

# RFC 6455 §1.3.
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def serve(name, reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
            method, path, _ = first.split(" ", 2)
            if fields.get("upgrade", "").lower() == "websocket":
                await echo(fields, reader, writer)
                return
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            answer = {"upstream": name, "method": method, "path": path, "certificate": fields.get("client-cert"),
                      "sha256": hashlib.sha256(body).hexdigest()}
            text = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text) + text)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def echo(fields, reader, writer):
    accept = base64.b64encode(hashlib.sha1(fields["sec-websocket-key"].encode() + WEBSOCKET).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: " + accept + b"\r\n\r\n")
    while True:
        # Short and masked messages of one frame, which is all that the clients of a soak send.
        kind, size = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = bytes(octet ^ mask[at % 4] for at, octet in enumerate(await reader.readexactly(size & 0x7f)))
        writer.write(bytes([kind, len(data)]) + data)
        await writer.drain()


async def main(name, port):
    server = await asyncio.start_server(lambda reader, writer: serve(name, reader, writer), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Until whoever has started it is gone.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
