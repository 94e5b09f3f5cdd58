from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Answer, Request, Server, start_proxy
from zarrant.errors import CapabilityError, OptionError, StoreError, StorePermissionError, VersionChangedError
from zarrant.stores.object_store import ObjectStore
from zarrant.stores.objects.failures import Failure
from zarrant.stores.resolve import resolve_store
from zarrant.stores.wrappers import Metrics
from zarrant.testkit import AsyncStoreSuite, StoreSuite, blocking

obstore = pytest.importorskip("obstore")
HOST = "127.0.0.1"

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)


def empty(server: Server) -> ObjectStore:
    """A store of the bucket, of which nothing is left of other tests."""
    store, _ = resolve_store(server.url, server.storage_options)
    store.erase_prefix("")
    return store  # type: ignore[no-any-return]


class TestInMemory(StoreSuite):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return ObjectStore(obstore.store.MemoryStore())


class TestInMemoryAwaited(AsyncStoreSuite):
    @pytest.fixture
    def async_store(self) -> ObjectStore:
        return ObjectStore(obstore.store.MemoryStore())

    @pytest.fixture
    def store(self, async_store: ObjectStore) -> Iterator[Any]:
        with blocking(async_store) as store:
            yield store


class OnServer(StoreSuite):
    """On a server of the tests: the class says which, and whether it names versions by content."""

    server = ""

    @pytest.fixture
    def store(self, request: pytest.FixtureRequest) -> ObjectStore:
        return empty(request.getfixturevalue(self.server))

    def test_like_a_dict(self, store: Any) -> None:
        """Once: each request takes up to 5 ms, and the long run is for the rest."""
        for seed in range(6 if SOAK else 1):
            self.compare_with_a_dict(store, seed)
            store.erase_prefix("")


class AwaitedOnServer(OnServer, AsyncStoreSuite):
    """The same by coroutines."""

    @pytest.fixture
    def async_store(self, request: pytest.FixtureRequest) -> ObjectStore:
        return empty(request.getfixturevalue(self.server))

    @pytest.fixture
    def store(self, async_store: ObjectStore) -> Iterator[Any]:
        with blocking(async_store) as store:
            yield store


class S3:
    named_by_content = True


class TestMoto(S3, OnServer):
    server = "moto"


class TestMotoAwaited(S3, AwaitedOnServer):
    server = "moto"


class TestGofakes3(S3, OnServer):
    server = "gofakes3"


class TestGofakes3Awaited(S3, AwaitedOnServer):
    server = "gofakes3"


class TestAzurite(OnServer):
    server = "azurite"


class TestAzuriteAwaited(AwaitedOnServer):
    server = "azurite"


class TestFakeGcs(OnServer):
    server = "fake_gcs"


class TestFakeGcsAwaited(AwaitedOnServer):
    server = "fake_gcs"


@pytest.mark.soak
class TestVersityGateway(S3, OnServer):
    server = "versitygw"


@pytest.mark.soak
class TestVersityGatewayAwaited(S3, AwaitedOnServer):
    server = "versitygw"


def test_no_credentials_are_said_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials a cloud machine's metadata service is asked, here one that is not there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    options = {"region": "eu-west-1", "metadata_endpoint": f"http://{HOST}:9", "retry_config": {"max_retries": 0}}
    start = time.monotonic()
    with pytest.raises(StorePermissionError) as caught:
        zarrant.open("s3://bucket/x", storage_options=options)
    assert time.monotonic() - start < 5
    assert "credentials" in str(caught.value.hint)


def test_lost_replies_are_neither_lost_nor_conflicts(gofakes3: Server) -> None:
    """Each token is stored once, whatever happens to the replies: 40 % of the puts and 10 % of the reads fail in some way."""
    dice = random.Random(1)
    answers = [Answer(lose_reply=True), *(Answer(status=status) for status in (500, 503, 412, 409, 429))]

    def rule(request: Request) -> Answer | None:
        if request.method == "PUT" and dice.random() < 0.4:
            return dice.choice(answers)
        return Answer(truncate=3) if request.method == "GET" and dice.random() < 0.1 else None

    empty(gofakes3)
    with start_proxy(gofakes3, rule) as proxy:
        store, _ = resolve_store(proxy.server.url, proxy.server.storage_options)
        text, version = b"", None
        for number in range(40):
            text += b"%d;" % number
            version = store.put_if("n", [text[:1], text[1:]], version)
    assert b"".join(resolve_store(gofakes3.url, gofakes3.storage_options).store.get("n").data) == text


def test_a_put_that_others_built_upon_is_a_success(gofakes3: Server) -> None:
    store, other = empty(gofakes3), resolve_store(gofakes3.url, gofakes3.storage_options).store
    with start_proxy(gofakes3) as proxy:

        def rule(request: Request) -> Answer | None:
            return Answer(lose_reply=True) if request.method == "PUT" else build(request)

        def build(request: Request) -> None:
            if request.method == "HEAD" and b"".join(store.get("n").data) == b"1":
                other.put_if("n", [b"12"], other.version("n"))

        proxy.rule = rule
        version = resolve_store(proxy.server.url, proxy.server.storage_options).store.put_if("n", [b"1"], None)
    with pytest.raises(VersionChangedError):
        store.put_if("n", [b"3"], version)
    assert b"".join(store.get("n").data) == b"12"


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (Answer(status=403), StorePermissionError, "credentials"),
        (Answer(status=301), StoreError, "region"),
        (Answer(status=429), StoreError, "Too many requests"),
        (Answer(status=500), StoreError, "do it again later"),
    ],
)
def test_failures_have_a_class_and_a_hint(gofakes3: Server, answer: Answer, kind: type[Exception], text: str) -> None:
    with start_proxy(gofakes3, lambda request: answer) as proxy:
        options = {**proxy.server.storage_options, "retry_config": {"max_retries": 0}}
        with pytest.raises(kind, match=text) as caught:
            resolve_store(proxy.server.url, options).store.get("a")
    assert "zarrant-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "Error performing PUT http://169.254.169.254/latest/api/token in 5.9ms - HTTP error: error sending request",
        "Error performing token request: Error performing GET http://169.254.169.254/metadata/identity/oauth2/token in 1ms - "
        "Server returned non-2xx status code: 403 Forbidden",
    ],
)
def test_where_no_credentials_are_found_the_hint_says_so(text: str) -> None:
    """obstore then asks the machine, as it would be asked in a cloud; what it tells is of an address that nobody gave."""
    error = pytest.importorskip("obstore.exceptions").GenericError(f"Generic S3 error: {text}")
    told = Failure.of(error).as_ours("s3://bucket", "a")
    assert isinstance(told, StorePermissionError) and "No credentials were found" in str(told)


VARIABLES = {
    "AWS_ENDPOINT_URL": "endpoint",
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_REGION": "region",
    "AZURE_STORAGE_ENDPOINT": "endpoint",
    "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
    "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
    "GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key",
}


def test_all_options_may_be_in_the_environment(object_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of a server without TLS too."""
    service = {"s3": "AWS", "az": "AZURE", "gs": "GOOGLE"}[object_server.url[:2]]
    for variable, option in VARIABLES.items():
        if variable.startswith(service):
            monkeypatch.setenv(variable, object_server.storage_options[option])
    assert resolve_store(object_server.fresh_url(), {}).store.get("nothing here") is None


def test_times_of_options_may_be_numbers_of_seconds(gofakes3: Server) -> None:
    client = {"allow_http": True, "timeout": 20, "connect_timeout": 0.5}
    retries = {"retry_timeout": 10, "backoff": {"init_backoff": 0.1, "max_backoff": 2}}
    options = {**gofakes3.storage_options, "client_options": client, "retry_config": retries}
    store = resolve_store(gofakes3.url, options).store
    assert store.get("nothing here") is None and store._put_timeout_s == 10  # conditional puts are repeated by us


def test_what_a_service_has_acknowledged_lasts(object_server: Server) -> None:
    a = zarrant.create_array(
        object_server.fresh_url(), data=[1, 2], storage_options=object_server.storage_options, config={"durability": "fsync"}
    )
    a[0] = 3
    a.sync()
    assert a[...].tolist() == [3, 2]


def test_memory_does_not_last() -> None:
    a = zarrant.create_array(ObjectStore(obstore.store.MemoryStore()), data=[1, 2])
    with pytest.raises(CapabilityError, match="sync"):
        a.sync()
    with pytest.raises(CapabilityError, match="durability"):
        a.with_config(durability="fsync")[0] = 3


def test_a_pickled_store_has_no_secret_unless_asked(gofakes3: Server) -> None:
    store = empty(gofakes3)
    assert b"zarrant-secret" not in pickle.dumps(store)
    options = {**gofakes3.storage_options, "pickle_secrets": True}
    asked = resolve_store(gofakes3.url, options).store
    again = pickle.loads(pickle.dumps(asked))
    assert (again, hash(again)) == (asked, hash(asked))
    again.put("a", [b"1"])
    with pytest.raises(CapabilityError, match="not pickled"):
        pickle.dumps(ObjectStore(gofakes3.make_store()))


def credentials() -> dict[str, Any]:
    """Asked for when they are needed, in each process."""
    return {"access_key_id": "key-of-tests", "secret_access_key": "zarrant-secret", "expires_at": None}


SECRETS = ("zarrant-secret", "key-of-tests", "header-secret", "proxy-secret")


def test_a_pickle_keeps_what_is_no_secret(gofakes3: Server) -> None:
    empty(gofakes3)
    client = {"allow_http": True, "timeout": "7s", "default_headers": {"x-my-token": "header-secret"}}
    retries = {"max_retries": 3, "retry_timeout": timedelta(seconds=9)}
    more = {"coalesce_gap": 7, "probe": "off", "client_options": client, "retry_config": retries}
    store: Any = resolve_store(gofakes3.url, {**gofakes3.storage_options, **more}).store
    again = pickle.loads(pickle.dumps(store))
    assert (again.url, again.coalesce_gap, again.probe) == (store.url, 7, "off")
    kept = again._options
    assert kept["client_options"] == {"allow_http": True, "timeout": "7s"} and kept["retry_config"] == retries
    assert kept["endpoint"] == gofakes3.endpoint and kept["region"] == "us-east-1"
    assert not {"access_key_id", "secret_access_key"} & set(kept)
    assert not any(secret.encode() in pickle.dumps(store) for secret in SECRETS)


def test_credentials_that_are_asked_for(gofakes3: Server) -> None:
    empty(gofakes3)
    options = {
        name: value for name, value in gofakes3.storage_options.items() if name not in ("access_key_id", "secret_access_key")
    }
    options["credential_provider"] = credentials
    store = resolve_store(gofakes3.url, options).store
    version = store.put_if("a", [b"1"], None)
    assert store.get("a").version == version
    assert b"credentials" not in pickle.dumps(store)
    again = pickle.loads(pickle.dumps(resolve_store(gofakes3.url, {**options, "pickle_secrets": True}).store))
    assert again.get("a").version == version


def test_no_secret_is_told(gofakes3: Server) -> None:
    """Neither by what a service says, nor by what is printed."""
    code = " ".join(SECRETS)
    client = {"allow_http": True, "default_headers": {"x-my-token": "header-secret"}}
    with start_proxy(gofakes3, lambda request: Answer(status=400, code=code)) as proxy:
        options = {**proxy.server.storage_options, "client_options": client}
        store = resolve_store(proxy.server.url, options).store
        calls: list[Callable[[], object]] = [
            lambda: store.get("a"),
            lambda: store.put("a", [b"1"]),
            lambda: store.put_if("a", [b"1"], None),
            lambda: store.erase("a"),
            lambda: store.erase_prefix("a/"),
            lambda: list(store.list_prefix("")),
            lambda: zarrant.open("s3://zarrant/a", mode="r", storage_options=options),
        ]
        for call in calls:
            with pytest.raises(StoreError) as caught:
                call()
            told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
            assert not any(secret in told.replace(__file__, "") for secret in SECRETS[:3]), told
        assert not any(secret in f"{store!r} {store.url} {store.guard} {hash(store)}" for secret in SECRETS)
    with pytest.raises(OptionError) as wrong:
        resolve_store(
            "s3://zarrant",
            {**gofakes3.storage_options, "client_options": {"proxy_url": "http://me:proxy-secret@[", "timeout": "x"}},
        )
    assert not any(secret in str(wrong.value) for secret in SECRETS)


def test_tries_of_conditional_puts_are_those_that_were_asked_for(gofakes3: Server) -> None:
    empty(gofakes3)
    with start_proxy(gofakes3, lambda request: Answer(status=503)) as proxy:
        for tries in (1, 3):
            proxy.requests.clear()
            options = {**proxy.server.storage_options, "retry_config": {"max_retries": tries - 1}}
            with pytest.raises(StoreError, match=f"not known, after {tries} tr") as caught:
                resolve_store(proxy.server.url, options).store.put_if("a", [b"1"], None)
            assert caught.value.retryable and caught.value.key == "a"
            assert [request.method for request in proxy.requests].count("PUT") == tries
        options = {**proxy.server.storage_options, "retry_config": {"max_retries": 1000, "retry_timeout": timedelta(seconds=0.3)}}
        begin = time.monotonic()
        with pytest.raises(StoreError, match="not known"):
            resolve_store(proxy.server.url, options).store.put_if("a", [b"1"], None)
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("s3://bucket", {"client_options": 3}, "client_options"),
        ("s3://bucket", {"retry_config": [1]}, "retry_config"),
        ("s3://bucket/a?x=1", {}, "more than a path"),
        ("s3://user:pass@bucket/a", {}, "a user or a password"),
        ("s3://", {}, "without a bucket"),
        ("s3://bucket/a/../b", {}, "not a key"),
        ("s3://bucket", {"regoin": "x"}, "Did you mean 'region'"),
        ("s3://bucket", {"coalesce_gap": -1}, "coalesce_gap"),
        ("http://host/a", {"region": "x"}, "field region"),
        ("s3://bucket", {"endpoint": "localhost:9000"}, "without a scheme.*field endpoint"),
        ("s3://bucket", {"anon": True}, "Its name here is 'skip_signature'"),
        ("s3://bucket", {"client_options": "allow_http"}, "not options.*field client_options"),
        ("s3://bucket", {"client_options": {"alow_http": True}}, "alow_http"),
        ("s3://bucket", {"retry_config": 3}, "not options.*field retry_config"),
        ("s3://bucket", {"retry_config": {"max_retry": 3}}, "field max_retry.*Did you mean 'max_retries'"),
        ("s3://bucket", {"retry_config": {"backoff": {"init": 3}}}, "unknown option of backoff.*field init"),
    ],
)
def test_refused(url: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text) as caught:
        resolve_store(url, options)
    assert "pass" not in str(caught.value).replace("password", "")


FORKED = """
import asyncio, json, os, signal, sys, time
import obstore, zarrant
from zarrant.errors import CapabilityError
from zarrant.stores.object_store import ObjectStore

def forked(work):
    time.sleep(0.1)  # obstore's threads have got their names by then
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # instead of waiting for ever
        try:
            work()
        except CapabilityError as error:
            assert "spawn" in str(error) and "forkserver" in str(error), error
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

options, cases = json.loads(sys.argv[1])
for kind in ("memory", "s3"):
    for name, (parent, child) in cases.items():
        inner = obstore.store.MemoryStore() if kind == "memory" else obstore.store.S3Store("zarrant", **options)
        places = {**globals(), "inner": inner}
        def work():
            exec(parent, places)
            os._exit(forked(lambda: exec(child, places)))
        print(f"{kind}, {name}: {forked(work)}", flush=True)
"""
FORKS = {
    "before it is used": ("store = ObjectStore(inner)", "store.put('a', [b'1'])", 0),
    "after it was used": ("store = ObjectStore(inner); store.put('a', [b'1'])", "store.get('a')", 7),
    "coroutines": ("store = ObjectStore(inner); store.put('a', [b'1'])", "asyncio.run(store.get_async('a'))", 7),
    "used without us": ("inner.put('a', b'1')", "ObjectStore(inner).get('a')", 7),
    "used without us, coroutines": ("inner.put('a', b'1')", "asyncio.run(ObjectStore(inner).put_async('a', [b'1']))", 7),
    "a grandchild": ("inner.put('a', b'1')", "os._exit(forked(lambda: ObjectStore(inner).get('a')))", 7),
}
"""What the parent does, what its child does, and how that ends: 7 is a CapabilityError."""


@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_is_told_that_it_cannot_use_obstore(gofakes3: Server) -> None:
    cases = {name: (parent, child) for name, (parent, child, _) in FORKS.items()}
    job = json.dumps([gofakes3.storage_options, cases])
    command = [sys.executable, "-W", "ignore", "-c", FORKED, job]
    found = subprocess.run(command, timeout=240, check=True, capture_output=True, text=True).stdout.splitlines()
    assert found == [f"{kind}, {name}: {status}" for kind in ("memory", "s3") for name, (_, _, status) in FORKS.items()]


POOL = """
import json, multiprocessing, sys, zarrant
from concurrent.futures import ProcessPoolExecutor

url, options = json.loads(sys.argv[1])
a = zarrant.create_array(url, data=[1, 2], storage_options=options)
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    try:
        pool.submit(a.__setitem__, 0, 5).result(60)
    except zarrant.errors.CapabilityError as error:
        print(error.hint)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_worker_of_a_pool_says_why(gofakes3: Server) -> None:
    """An error while the handle is unpickled would end the worker, and tell the caller nothing."""
    job = json.dumps([gofakes3.fresh_url(), {**gofakes3.storage_options, "pickle_secrets": True}])
    command = [sys.executable, "-W", "ignore", "-c", POOL, job]
    assert "forkserver" in subprocess.run(command, timeout=120, check=True, capture_output=True, text=True).stdout


def test_processes_that_are_not_forked_can_use_it(gofakes3: Server) -> None:
    """Under `spawn` and `forkserver`, from a process that uses it."""
    empty(gofakes3)
    store = resolve_store(gofakes3.url, {**gofakes3.storage_options, "pickle_secrets": True}).store
    for number, method in enumerate(("spawn", "forkserver")):
        with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            pool.submit(store.put, f"n{number}", [b"1"]).result(60)
    assert list(store.list_prefix("")) == ["n0", "n1"]


class Counted:
    """A store of obstore that notes the range of each get."""

    def __init__(self) -> None:
        self.inner, self.ranges = obstore.store.MemoryStore(), list[Any]()

    def get(self, path: str, *, options: dict[str, Any] | None = None) -> Any:
        self.ranges.append((options or {}).get("range"))
        return self.inner.get(path, options=options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("around", [lambda store: store, Metrics], ids=["alone", "wrapped"])
def test_a_handle_chooses_the_gap(around: Any) -> None:
    inner = Counted()
    store = around(ObjectStore(inner))
    a = zarrant.create_array(
        store, data=np.arange(256, dtype="u1").reshape(16, 16), chunks=(1, 1), shards=(16, 16), compressors=None
    )
    values, counts = np.arange(256).reshape(16, 16), {}
    for gap in ("auto", 0, 20):
        handle = a.with_config(coalesce_gap=gap)
        handle[0, 0]  # the index is kept from here on
        inner.ranges.clear()
        assert handle[2:6, 3:5].tolist() == values[2:6, 3:5].tolist()
        counts[gap] = len([part for part in inner.ranges if isinstance(part, tuple)])
    assert counts == {"auto": 1, 0: 4, 20: 1}
