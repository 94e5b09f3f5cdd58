"""moto's S3, with one change at a time, as `moto_shim.py HOST PORT`.

moto compares the condition of a PUT and stores the object in two steps of one thread of several: on a busy machine two writers can
both be told that theirs was the one, which no S3 does.
"""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server import werkzeug_app
from werkzeug.serving import run_simple


class OneChangeAtATime:
    """A WSGI application that performs requests which change something one after the other."""

    def __init__(self, application: Any) -> None:
        self.application, self.turn = application, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self.application(environ, start_response)
        with self.turn:
            return list(self.application(environ, start_response))


if __name__ == "__main__":
    host, port = sys.argv[1], int(sys.argv[2])
    application = OneChangeAtATime(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app))
    handler = getattr(werkzeug_app, "MotoRequestHandler", None)  # it keeps headers with an underscore, where werkzeug drops them
    run_simple(host, port, application, threaded=True, request_handler=handler)
