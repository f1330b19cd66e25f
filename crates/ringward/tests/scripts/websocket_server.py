"""A WebSocket server, to stand behind the gateway. Prints its port, then one line for each connection that has ended."""

import asyncio
import base64

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    """Sends everything back as it came: text or binary, whole."""
    async for message in connection:
        await connection.send(message)


async def fragments(connection):
    """Sends each message back in three fragments."""
    async for message in connection:
        third = len(message) // 3
        await connection.send([message[:third], message[third : 2 * third], message[2 * third :]])


async def peer(connection):
    """Says who the gateway says is there, and what the client has asked for."""
    fields = connection.request.headers
    certificate = fields.get("client-cert")
    size = len(base64.b64decode(certificate.strip(":"), validate=True)) if certificate else 0
    await connection.send(f"{'certificate' if size else 'nobody'} {fields['x-asked']}")


async def close(connection):
    """Closes as the client wishes."""
    code, reason = (await connection.recv()).split(" ", 1)
    await connection.close(int(code), reason)


async def ping(connection):
    """Asks the client whether it is there."""
    await (await connection.ping(b"there?"))
    await connection.send("pong")


HANDLERS = {f"/ws/{handler.__name__}": handler for handler in (echo, fragments, peer, close, ping)}


def choose(_, offered):
    return "chat.v2" if "chat.v2" in offered else None


async def handle(connection):
    try:
        await HANDLERS[connection.request.path](connection)
    except ConnectionClosed:
        pass
    finally:
        await connection.close()
        print(connection.request.path, connection.close_code, connection.close_reason, flush=True)


async def main():
    async with serve(handle, "127.0.0.1", 0, select_subprotocol=choose, max_size=8 << 20) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
