"""Python's websockets as a client. Arguments: port, CA, certificate, key. Prints one word per step."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

port, ca, cert, key = int(sys.argv[1]), *sys.argv[2:5]


def open_socket(path, host="api.example.com", certificate=True, **options):
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(cert, key)
    options = {"ssl": context, "host": "127.0.0.1", "server_hostname": host, "proxy": None, "max_size": 8 << 20} | options
    return connect(f"wss://{host}:{port}{path}", port=port, **options)


async def echoed(socket, message):
    await socket.send(message)
    answer = await socket.recv()
    whole = message if isinstance(message, (str, bytes)) else type(message[0])().join(message)
    assert answer == whole, (len(answer), len(whole))


async def refusal(*arguments, **options):
    try:
        async with open_socket(*arguments, **options):
            return "open"
    except InvalidStatus as refused:
        return refused.response.status_code
    except (InvalidHandshake, ConnectionClosed, OSError, EOFError):
        return "refused"


async def converse(number):
    async with open_socket("/ws/echo") as socket:
        for turn in range(10):
            await echoed(socket, f"{number}/{turn}")


async def main():
    words = []
    async with open_socket("/ws/peer", additional_headers={"client-cert": "forged", "x-asked": "this"}) as socket:
        words.append(await socket.recv())

    for compression in (None, "deflate"):
        async with open_socket("/ws/echo", compression=compression, subprotocols=["chat.v1", "chat.v2"]) as socket:
            assert socket.subprotocol == "chat.v2", socket.subprotocol
            for message in ("", "wörds", b"", bytes(range(256)), ["in ", "three ", "parts"], [b"\0", b"\xff" * 70_000]):
                await echoed(socket, message)
            for message in ("x" * (1 << 20), bytes(range(256)) * 4096):
                await echoed(socket, message)
            await (await socket.ping())
    words.append("echo-ok")
    async with open_socket("/ws/fragments") as socket:
        await echoed(socket, "fragments of a text")
        await echoed(socket, bytes(range(256)) * 4096)
        # Not one message after the other.
        messages = [str(number) * 10_000 for number in range(50)]
        sending = asyncio.create_task(send_all(socket, messages))
        assert [await socket.recv() for _ in messages] == messages
        await sending
    words.append("fragments-ok")
    async with open_socket("/ws/ping") as socket:
        words.append(await socket.recv())

    async with open_socket("/ws/close") as socket:
        await socket.send("4001 enough of it")
        await socket.wait_closed()
        words.append(f"{socket.close_code} {socket.close_reason}")
    socket = await open_socket("/ws/echo")
    await socket.close(4002, "had enough")
    words.append(socket.close_code)
    await asyncio.gather(*(converse(number) for number in range(30)))
    words.append("concurrent-ok")

    words.append(await refusal("/ws/echo", host="optional.example.com", certificate=False))
    words.append(await refusal("/ws/echo", certificate=False))
    print(*words, sep=", ")


async def send_all(socket, messages):
    for message in messages:
        await socket.send(message)


asyncio.run(main())
