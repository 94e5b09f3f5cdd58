"""`python -m benchmarks.counting PORT`: a proxy on a free port that counts what goes to a server, and can delay each request.

In come connections; out go the same requests to `127.0.0.1:PORT`, one connection there for each one here. The first line that is
printed is the port. `GET /-/take` gives the counts so far as JSON and starts anew; `GET /-/delay/0.01` makes every later request
wait for so many seconds before it is passed on, as if it had travelled. It ends when its standard input is closed.

`Counting` starts it and talks to it. It is a process of its own, so that it does not take turns with who is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from typing import Any

HOST = "127.0.0.1"
CONTROL = "/-/"
PIECE = 1 << 20


class Counting:
    """The proxy in front of a port, while the block lasts."""

    def __init__(self, port: int) -> None:
        self.target = port

    def __enter__(self) -> Counting:
        command = [sys.executable, "-m", "benchmarks.counting", str(self.target)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.communicate()  # closes its standard input

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def take(self) -> dict[str, int]:
        """Requests by method, and `up` and `down`, the bytes of their bodies and of those of the replies; since the last call."""
        found: dict[str, int] = self._ask("take")
        return found

    def delay(self, seconds: float) -> None:
        """Delay each request from now on."""
        self._ask(f"delay/{seconds}")

    def _ask(self, what: str) -> Any:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self.endpoint}{CONTROL}{what}", timeout=60) as reply:
            return json.loads(reply.read())


class Proxy:
    """The counts, and how a connection is served."""

    def __init__(self, port: int) -> None:
        self.port, self.delay, self.counts = port, 0.0, Counter[str]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while head := await read_head(reader):
                method, path, _ = head[0].split(" ", 2)
                if path.startswith(CONTROL):
                    self._control(path.removeprefix(CONTROL), writer)
                    continue
                server = server or await asyncio.open_connection(HOST, self.port, limit=PIECE)
                await self._pass_on(method, head, reader, writer, *server)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, *((server[1],) if server else ())):
                end.close()

    async def _pass_on(
        self,
        method: str,
        head: list[str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        replies: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        self.counts[method] += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        if field(head, "expect"):  # the client waits for a word before it sends the body
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = [line for line in head if not line.lower().startswith("expect:")]
        server.write(joined(head))
        await self._copy_body("up", head, reader, server)
        reply = await read_head(replies)
        while reply and reply[0].split(" ")[1].startswith("1"):
            reply = await read_head(replies)
        if not reply:
            raise ConnectionResetError
        writer.write(joined(reply))
        if method != "HEAD" and reply[0].split(" ")[1] not in ("204", "304"):
            await self._copy_body("down", reply, replies, writer)
        await writer.drain()

    async def _copy_body(self, way: str, head: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a body on as it comes. It is counted before it is passed on: who has got a reply may ask for the counts at once."""
        if field(head, "transfer-encoding") != "chunked":
            await self._copy_bytes(way, int(field(head, "content-length") or 0), reader, writer)
            return
        while True:
            line = await reader.readuntil(b"\r\n")
            writer.write(line)
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                while line != b"\r\n":
                    line = await reader.readuntil(b"\r\n")
                    writer.write(line)
                return
            await self._copy_bytes(way, size + 2, reader, writer)

    async def _copy_bytes(self, way: str, left: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            piece = await reader.read(min(left, PIECE))
            if not piece:
                raise ConnectionResetError
            left -= len(piece)
            self.counts[way] += len(piece)
            writer.write(piece)
            await writer.drain()

    def _control(self, what: str, writer: asyncio.StreamWriter) -> None:
        found: dict[str, int] = {}
        if what == "take":
            found, self.counts = dict(self.counts), Counter()
        else:
            self.delay = float(what.removeprefix("delay/"))
        body = json.dumps(found).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


async def read_head(reader: asyncio.StreamReader) -> list[str]:
    """The lines of a head; none at the end of a connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return []
    return head.decode("latin-1").split("\r\n")[:-2]


def joined(head: list[str]) -> bytes:
    return "\r\n".join([*head, "", ""]).encode("latin-1")


def field(head: list[str], name: str) -> str | None:
    """The value of a field of a head, in lower case."""
    found = (line.partition(":")[2].strip().lower() for line in head if line.lower().startswith(f"{name}:"))
    return next(found, None)


async def main(port: int) -> None:
    """Serve until standard input is closed."""
    server = await asyncio.start_server(Proxy(port).serve, HOST, 0, limit=PIECE)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(os.read, 0, 1)
    os._exit(0)  # connections that are open would be waited for


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(main(int(sys.argv[1])))
