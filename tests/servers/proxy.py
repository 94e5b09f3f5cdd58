"""A proxy in front of an object store that does to requests what a test wants: each kind of failure, over real connections.

It runs in threads of the tests, so that a test gives it a function: what it does to a request is said by an `Answer`.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from servers.object_stores import Server, start_moto
from servers.processes import HOST

CONDITIONS = ("if-match", "if-none-match", "x-goog-if-generation-match")
NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length"}


@dataclass
class Request:
    """One request: `path` as it was sent, with its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What becomes of a request. `status`: it is not passed on, and answered with this one. `code`: the error code in its body."""

    status: int = 0
    code: str = "Injected"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0
    lose_reply: bool = False
    """The store performs the request, then the connection is closed."""
    truncate: int = 0
    """Bytes that are missing at the end of the reply, whose length says that they are there."""
    surplus: int = 0
    """Bytes after the end of the reply, which its length does not count."""
    longer: int = 0
    """Bytes that are added to the reply (taken off, where negative), as its length says; the range it names is as it was."""
    stale_body: bool = False
    """The body of the reply before this one for the path, with the headers (and so the tag) of this one."""


Rule = Callable[[Request], "Answer | None"]
"""None: pass it on as it is (as the rule left it: it may change the request)."""


@dataclass
class Proxy:
    """The proxy's address as a `Server`, its rule, and the requests that came."""

    server: Server
    rule: Rule
    requests: list[Request] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    """What was read last at each path."""
    has_ended: bool = False


@contextmanager
def start_proxy(server: Server, rule: Rule = lambda request: None) -> Iterator[Proxy]:
    """A proxy in front of a server. `rule` can be set anew at any time."""
    listener = _Listener((HOST, 0), _Handler)
    listener.daemon_threads = True
    inner = urlsplit(server.endpoint)
    endpoint = f"http://{HOST}:{listener.server_port}{inner.path}"
    options = {**server.storage_options, "endpoint": endpoint}
    listener.proxy = Proxy(replace(server, endpoint=endpoint, storage_options=options), rule)  # type: ignore[attr-defined]
    listener.target = inner.netloc  # type: ignore[attr-defined]
    serving = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield listener.proxy  # type: ignore[attr-defined]
    finally:
        listener.proxy.has_ended = True  # type: ignore[attr-defined]
        listener.shutdown()
        listener.server_close()
        serving.join()


def without_conditions(request: Request) -> None:
    """A rule: conditions of writes are not seen by the store."""
    if request.method in ("PUT", "POST"):
        request.headers = {name: value for name, value in request.headers.items() if name.lower() not in CONDITIONS}


@contextmanager
def start_without_conditions() -> Iterator[Server]:
    """An S3 that ignores the conditions of writes, as some clones do."""
    with start_moto() as moto, start_proxy(moto, without_conditions) as proxy:
        yield replace(proxy.server, name="without conditions")


class _Listener(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that went away, or a server that ended, is what tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written apart
    server: Any

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        proxy: Proxy = self.server.proxy
        if proxy.has_ended:  # a connection that was kept
            self.close_connection = True
            return
        proxy.requests.append(request)
        answer = proxy.rule(request) or Answer()
        time.sleep(answer.delay_s)
        if answer.status:
            text = f"<?xml version='1.0'?><Error><Code>{answer.code}</Code><Message>injected</Message></Error>".encode()
            self._reply(answer.status, {**answer.headers, "Content-Type": "application/xml"}, text)
            return
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            found = connection.getresponse()
            data, headers = found.read(), dict(found.getheaders())
        finally:
            connection.close()
        if answer.lose_reply:
            self.close_connection = True
            return
        if request.method == "GET":
            before = proxy.bodies.get(request.path, data)
            proxy.bodies[request.path] = data
            data = before if answer.stale_body else data
        data = data[: len(data) + answer.longer] + bytes(max(0, answer.longer))
        self._reply(found.status, headers, data, answer.truncate, answer.surplus)

    def _reply(self, status: int, headers: dict[str, str], body: bytes, truncate: int = 0, surplus: int = 0) -> None:
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), "0")
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) - truncate] + bytes(surplus))
        if truncate or surplus:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what came is in `Proxy.requests`."""
