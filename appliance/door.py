"""`python -m appliance.door`: lets people into a network that has no way out.

A container that publishes a port has a network it can call out by. This process alone is on such a
one: it has no data and no secret, passes bytes to the one place it was started with, and reads none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from functools import partial

CONNECTIONS = 1000
CHUNK = 64 * 1024
CONNECT_S = 5.0

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m appliance.door")
    parser.add_argument("--listen", default="0.0.0.0:8400")
    parser.add_argument("--to", default="web:8400")
    given = parser.parse_args()
    asyncio.run(serve(_address(given.listen), _address(given.to)))


async def serve(listen: tuple[str, int], to: tuple[str, int]) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    handler = passing(*to)
    async with await asyncio.start_server(handler, *listen, limit=CHUNK, backlog=CONNECTIONS):
        await stop.wait()


def passing(host: str, port: int) -> Handler:
    return partial(_pass, asyncio.Semaphore(CONNECTIONS), host, port)


async def _pass(
    room: asyncio.Semaphore,
    host: str,
    port: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    # who finds no room, or nobody inside, is hung up on and may come again
    with contextlib.suppress(OSError):
        if not room.locked():
            async with room:
                await _both(reader, writer, host, port)
    writer.close()


async def _both(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    async with asyncio.timeout(CONNECT_S):
        inner, outer = await asyncio.open_connection(host, port, limit=CHUNK)
    asked = asyncio.create_task(_ask(reader, outer))
    try:
        await _flow(inner, writer)  # when it has said its last, it is over
    finally:
        asked.cancel()
        outer.close()


async def _ask(reader: asyncio.StreamReader, outer: asyncio.StreamWriter) -> None:
    try:
        await _flow(reader, outer)
        outer.write_eof()
    except OSError:  # whoever asked is gone, and so is the question
        outer.close()


async def _flow(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    main()
