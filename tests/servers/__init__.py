"""Real servers on free ports of this machine, for tests: object stores that need no account, and Redis.

In: nothing; each `start_…` is a context manager that gives a `Server` and ends the process behind it. A server is taken from
`$ZARRANT_SERVERS/bin`, from `.servers/bin` of the checkout (where `scripts/servers.sh` installs them), or from the PATH. Where
it is in none of them the test is skipped, and the reason says how to install it. `docs/testing-servers.md` describes each.

>>> with start_moto() as server:  # doctest: +SKIP
...     a = zarrant.create_array(server.fresh_url(), shape=(8,), dtype="uint8", storage_options=server.storage_options)
"""

from servers.object_stores import BUCKET, Server, start_azurite, start_fake_gcs, start_gofakes3, start_moto, start_versitygw
from servers.processes import HOST, free_port, installed, running
from servers.proxy import Answer, Proxy, Request, start_proxy, start_without_conditions, without_conditions
from servers.redis import start_redis

__all__ = [
    "BUCKET",
    "HOST",
    "Answer",
    "Proxy",
    "Request",
    "Server",
    "free_port",
    "installed",
    "running",
    "start_azurite",
    "start_fake_gcs",
    "start_gofakes3",
    "start_moto",
    "start_proxy",
    "start_redis",
    "start_versitygw",
    "start_without_conditions",
    "without_conditions",
]
