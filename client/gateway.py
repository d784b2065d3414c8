"""gateway: `python -m client.gateway HOST PORT`: the one way out of a site's container network.

Every connection to PORT here becomes one to HOST:PORT, byte for byte.  TLS ends at site and server: the gateway can
neither read nor change what passes, and it dials nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
import sys
from contextlib import suppress

__all__ = ["main", "open_gateway"]

CHUNK = 2**16
CONNECT_S = 10
MOST_CONNECTIONS = 64
"""A site needs one or two."""


async def open_gateway(host: str, port: int, *, listen: str, listen_port: int) -> asyncio.Server:
    """Listen, and pass on to host:port whatever comes; the caller serves and closes."""
    free = asyncio.Semaphore(MOST_CONNECTIONS)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with free:
            try:
                there = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
            except (OSError, TimeoutError) as error:
                sys.stderr.write(f"server-unreachable {host}:{port} {type(error).__name__}\n")
                _reset(writer)
                return
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

    return await asyncio.start_server(carry, listen, listen_port)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End it as a closed port does: an orderly end inside TLS is taken for a foreign server, and not tried again."""
    at_once = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction to its end; a connection lost on either side ends both."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(host: str, port: int) -> None:
    async with await open_gateway(host, port, listen="0.0.0.0", listen_port=port) as server:  # noqa: S104  # its own network
        await server.serve_forever()


def main() -> None:
    """Serve until the signal."""
    arguments = argparse.ArgumentParser(description="A site's only way out; the kit's compose.yaml starts it.")
    arguments.add_argument("host")
    arguments.add_argument("port", type=int)
    options = arguments.parse_args()
    asyncio.run(_serve(options.host, options.port))


if __name__ == "__main__":
    main()
