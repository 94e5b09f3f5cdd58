"""Arrays behind plain HTTP servers: with ranges and without, and all that a server may do otherwise than expected."""

from __future__ import annotations

import asyncio
import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, NodeNotFoundError, OptionError, StoreError, ZarrantError
from zarrant.storage import capabilities
from zarrant.stores.resolve import resolve_store
from zarrant.stores.wrappers import Cache
from zarrant.stores.zip_store import ZipStore

pytest.importorskip("obstore")

VALUES = np.arange(4000, dtype="<i4").reshape(40, 100)
HOST = "127.0.0.1"
ONCE = {"retry_config": {"max_retries": 0}}


class Server(BaseHTTPRequestHandler):
    """Files of a directory by GET and HEAD, with ranges. Each test changes one thing."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    root: Path
    requests: list[tuple[str, str | None, int]]
    absent, etags, ranges, redirect, encoding, lie = 404, "strong", True, "", "", ""

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.redirect and not self.path.startswith("/moved/"):
            return self.answer(302, b"", {"Location": self.redirect + "/moved" + self.path})
        path = self.root / self.path.removeprefix("/moved").lstrip("/")
        if not path.is_file():
            return self.answer(self.absent, b"<html>there is nothing here</html>", {})
        data, headers, status = path.read_bytes(), {"Last-Modified": "Thu, 26 Nov 2026 10:00:00 GMT"}, 200
        if self.etags:
            headers["ETag"] = ("W/" if self.etags == "weak" else "") + f'"{hash(data):x}"'
        if headers.get("ETag") and self.headers.get("If-Match", headers["ETag"]) not in (headers["ETag"], "*"):
            return self.answer(412, b"", {})
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if self.encoding and "gzip" in self.headers.get("Accept-Encoding", ""):
            data, headers["Content-Encoding"] = gzip.compress(data), "gzip"
        elif found and self.ranges:
            size = len(data)
            start, stop = (max(0, size - int(found[2])), size) if not found[1] else (int(found[1]), int(found[2] or size - 1) + 1)
            if start >= size:
                return self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            data, status = data[start:stop], 206
            shift = 1 if self.lie == "content-range" else 0
            headers["Content-Range"] = f"bytes {start + shift}-{start + shift + len(data) - 1}/{size}"
        self.requests.append((self.path, self.headers.get("Range"), 0 if self.command == "HEAD" else len(data)))
        return self.answer(status, data, headers)

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        more = {"long": 7, "short": -7}.get(self.lie, 0) if "zarr.json" not in self.path else 0
        self.send_header("Content-Length", str(max(0, len(data) + more)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        if more:
            self.close_connection = True


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    with ThreadingHTTPServer((HOST, 0), handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for zarr_format in (2, 3):
        group = zarrant.open_group(tmp_path / f"v{zarr_format}.zarr", mode="w", zarr_format=zarr_format)
        group.create_array("a", data=VALUES, chunks=(10, 30))
        group.consolidate_metadata()
    zarrant.create_array(tmp_path / "shards.zarr", data=VALUES, chunks=(5, 10), shards=(20, 50))
    sparse = zarrant.create_array(tmp_path / "sparse.zarr", shape=(40, 100), chunks=(10, 30), dtype="i4", fill_value=7)
    sparse[:10, :30] = 1
    with ZipStore(tmp_path / "a.ozx", "w") as store:
        zarrant.create_array(store, name="0", data=VALUES, chunks=(5, 10), shards=(20, 50))
    return tmp_path


def server(files: Path, **changes: Any) -> Any:
    return type("Changed", (Server,), {"root": files, "requests": [], **changes})


def check_all(url: str, options: Any = None) -> None:
    """Whatever the files have can be read, by both kinds of calls."""
    with_options = {"mode": "r", "storage_options": {**ONCE, **(options or {})}}
    for name in ("v2.zarr", "v3.zarr"):
        group = zarrant.open_group(f"{url}/{name}", **with_options)
        assert list(group) == ["a"], "consolidated metadata tell the members where nothing can be listed"
        assert np.array_equal(group["a"][...], VALUES)
    assert np.array_equal(zarrant.open_array(f"{url}/shards.zarr", **with_options)[3:33, 7:61], VALUES[3:33, 7:61])
    assert np.array_equal(zarrant.open_array(f"{url}/a.ozx", name="0", **with_options)[3:33, 7:61], VALUES[3:33, 7:61])
    sparse = zarrant.open_array(f"{url}/sparse.zarr", **with_options)[...]
    assert (sparse[:10, :30] == 1).all() and (sparse[10:] == 7).all()

    async def read(address: str, **where: Any) -> Any:
        array = await zarrant.open_array_async(address, **where, **with_options)
        return await array.getitem((slice(3, 33), slice(7, 61)))

    for address, where in ((f"{url}/shards.zarr", {}), (f"{url}/a.ozx", {"name": "0"})):
        assert np.array_equal(asyncio.run(read(address, **where)), VALUES[3:33, 7:61])
    with pytest.raises(NodeNotFoundError):
        zarrant.open(f"{url}/nothing.zarr", **with_options)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ranges": False},
        {"etags": ""},
        {"etags": "weak"},
        {"etags": "weak", "ranges": False},
        {"encoding": "gzip"},
        {"encoding": "gzip", "ranges": False},
    ],
    ids=str,
)
def test_servers(files: Path, changes: dict[str, Any]) -> None:
    with serving(server(files, **changes)) as url:
        check_all(url)


@pytest.mark.parametrize(("etags", "kept"), [("strong", True), ("weak", False), ("", False)])
def test_a_cache_keeps_only_what_has_the_same_bytes_for_good(files: Path, etags: str, kept: bool) -> None:
    """A weak tag, or a time of change, may be that of other bytes too."""
    with serving(server(files, etags=etags)) as url:
        store, prefix = resolve_store(f"{url}/shards.zarr", ONCE)
        cache = Cache(store)
        for _ in range(2):
            found = cache.get(f"{prefix}zarr.json")
            assert found is not None and found.size == (files / "shards.zarr/zarr.json").stat().st_size
        assert (cache.hits > 0, cache.nbytes > 0) == (kept, kept)


def test_the_server_of_python(files: Path) -> None:
    """It ignores ranges, and has no ETags."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with serving(partial(Quiet, directory=str(files))) as url:
        check_all(url)


def test_redirects(files: Path) -> None:
    with serving(server(files)) as target, serving(server(files, redirect=target)) as url:
        check_all(url)


def test_ranges_read_no_more_than_they_must(files: Path) -> None:
    handler = server(files)
    with serving(handler) as url:
        array = zarrant.open_array(f"{url}/shards.zarr", mode="r")
        handler.requests.clear()
        assert array[0, 0] == 0
        assert sum(length for _, _, length in handler.requests) < 2500
        assert len(handler.requests) <= 3


def test_403_is_an_error(files: Path) -> None:
    """S3 answers 403 for absent objects where listing is not allowed: whether one is absent cannot be known, and is not guessed."""
    with serving(server(files, absent=403)) as url:
        group = zarrant.open_group(f"{url}/v3.zarr", mode="r", storage_options=ONCE)
        assert np.array_equal(group["a"][...], VALUES)
        sparse = zarrant.open_array(f"{url}/sparse.zarr", mode="r", storage_options=ONCE)
        assert (sparse[:10, :30] == 1).all()
        with pytest.raises(PermissionError) as caught:
            sparse[10:]
        assert isinstance(caught.value, ZarrantError) and "403" in str(caught.value)
        check_all(url, {"forbidden_is_absent": True})
    with pytest.raises(OptionError, match="forbidden_is_absent"):
        zarrant.open(f"http://{HOST}:9/a", mode="r", storage_options={"forbidden_is_absent": 403})


@pytest.mark.parametrize("lie", ["long", "short", "content-range"])
def test_replies_of_another_length(files: Path, lie: str) -> None:
    with serving(server(files, lie=lie)) as url:
        array = zarrant.open_array(f"{url}/shards.zarr", mode="r", storage_options=ONCE)
        for region in [np.s_[3:5, 3:5], *([] if lie == "content-range" else [np.s_[...]])]:  # a whole shard is read without a range
            with pytest.raises((StoreError, zarrant.errors.PartialFailure, zarrant.errors.ChunkError)):
                array[region]


def test_http_by_fsspec(files: Path) -> None:
    """A file system whose coroutines are its own, and belong to one event loop."""
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    from zarrant.stores.fsspec_store import FsspecStore

    with serving(server(files)) as url:
        store = FsspecStore(fsspec.filesystem("http"), f"{url}/shards.zarr")
        assert store.url == f"{url}/shards.zarr" and capabilities(store).awaits
        assert np.array_equal(zarrant.open_array(store, mode="r")[3:33, 7:61], VALUES[3:33, 7:61])

        async def read() -> Any:
            return await (await zarrant.open_array_async(store, mode="r")).getitem((slice(3, 33), slice(7, 61)))

        for _ in range(2):
            assert np.array_equal(asyncio.run(read()), VALUES[3:33, 7:61])
        with pytest.raises(NodeNotFoundError):
            zarrant.open(FsspecStore(fsspec.filesystem("http"), f"{url}/none.zarr"), mode="r")


def test_nobody_answers() -> None:
    with pytest.raises(StoreError):
        zarrant.open(f"http://{HOST}:9/a.zarr", mode="r", storage_options=ONCE)


def test_nothing_is_written(files: Path) -> None:
    with serving(server(files)) as url:
        with pytest.raises(CapabilityError, match="HTTP servers are only read"):
            zarrant.create_array(f"{url}/new.zarr", data=VALUES)
        with pytest.raises(CapabilityError):
            zarrant.open_array(f"{url}/shards.zarr")[0, 0] = 1
