"""What goes wrong at an object store: each a typed error that names the store and the key, or a bounded number of tries."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import HOST, Answer, Proxy, Request, Server, free_port, start_proxy
from zarrant.errors import CapabilityError, NodeExistsError, NodeNotFoundError, StoreError, StorePermissionError, ZarrantError
from zarrant.stores.resolve import resolve_store
from zarrant.testkit import together

pytest.importorskip("obstore")

PAUSES = {"init_backoff": timedelta(milliseconds=10), "max_backoff": timedelta(milliseconds=20), "base": 2}
FEW_TRIES = {"max_retries": 2, "backoff": PAUSES, "retry_timeout": timedelta(seconds=20)}
VALUES = np.arange(1, 17, dtype="uint8")


@pytest.fixture(scope="module")
def proxy(moto: Server) -> Iterator[Proxy]:
    with start_proxy(moto) as proxy:
        yield proxy


@pytest.fixture
def url(proxy: Proxy) -> Iterator[str]:
    """An array of four chunks."""
    url = proxy.server.fresh_url()
    zarrant.create_array(url, data=VALUES, chunks=(4,), storage_options=options(proxy.server))
    proxy.requests.clear()
    yield url
    proxy.rule = lambda request: None


def options(server: Server, **more: Any) -> dict[str, Any]:
    return {**server.storage_options, "retry_config": FEW_TRIES, **more}


def read(url: str, given: dict[str, Any]) -> Any:
    return zarrant.open_array(url, mode="r", storage_options=given)[...]


def write(url: str, given: dict[str, Any]) -> Any:
    zarrant.open_array(url, mode="r+", storage_options=given)[5:7] = [50, 60]


def of_chunk(answer: Answer, times: int = 1000, method: str = "") -> Callable[[Request], Answer | None]:
    """A rule for requests of chunk 1, as often as said."""
    left = iter([answer] * times)

    def rule(request: Request) -> Answer | None:
        return next(left, None) if request.path.endswith("/c/1") and request.method.startswith(method) else None

    return rule


ANSWERS = {
    "forbidden": (Answer(403, "AccessDenied"), StorePermissionError, False),
    "a wrong signature": (Answer(403, "SignatureDoesNotMatch"), StorePermissionError, False),
    "without credentials": (Answer(401, "Unauthorized"), StorePermissionError, False),
    "another region": (Answer(301, "PermanentRedirect"), StoreError, False),
    "another region, signed": (Answer(400, "AuthorizationHeaderMalformed"), StoreError, False),
    "too many requests": (Answer(429, "TooManyRequests"), StoreError, True),
    "slow down": (Answer(503, "SlowDown"), StoreError, True),
    "internal error": (Answer(500, "InternalError"), StoreError, True),
    "bad gateway": (Answer(502, "BadGateway"), StoreError, True),
    "truncated": (Answer(truncate=3), StoreError, True),
    "another clock": (Answer(403, "RequestTimeTooSkewed"), StorePermissionError, False),
    "no reply": (Answer(lose_reply=True), StoreError, True),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_read_that_fails_names_the_key(proxy: Proxy, url: str, what: str) -> None:
    answer, kind, retryable = ANSWERS[what]
    proxy.rule = of_chunk(answer, method="GET")
    with pytest.raises(kind) as caught:
        read(url, options(proxy.server))
    error: Any = caught.value
    told = next(iter(getattr(error, "failed", {}).values()), error)
    assert isinstance(told, ZarrantError) and told.blame == "store" and told.retryable is retryable
    assert str(told.key).endswith("c/1") and "s3://zarrant" in str(error) + str(told.store)
    assert "zarrant-secret" not in str(error)
    assert len([request for request in proxy.requests if request.path.endswith("/c/1")]) <= 40


@pytest.mark.parametrize("what", [what for what in ANSWERS if what != "truncated"])
def test_a_partial_write_that_fails_names_the_key_and_leaves_the_object_whole(proxy: Proxy, url: str, what: str) -> None:
    answer, kind, _ = ANSWERS[what]
    proxy.rule = of_chunk(answer, method="PUT")
    begin = time.monotonic()
    try:
        write(url, options(proxy.server))
    except kind as error:
        assert "c/1" in str(error)
    else:
        assert answer.lose_reply  # it was stored, and that is found out
    assert time.monotonic() - begin < 60
    proxy.rule = lambda request: None
    found = read(url, options(proxy.server))
    written = VALUES.copy()
    written[5:7] = [50, 60]
    assert found.tolist() in ([written.tolist()] if answer.lose_reply else [VALUES.tolist()])


@pytest.mark.parametrize("what", ["slow down", "internal error", "too many requests", "no reply", "truncated"])
def test_what_passes_is_tried_again(proxy: Proxy, url: str, what: str) -> None:
    proxy.rule = of_chunk(ANSWERS[what][0], times=2)
    assert read(url, options(proxy.server)).tolist() == VALUES.tolist()
    if what != "truncated":
        proxy.rule = of_chunk(ANSWERS[what][0], times=2, method="PUT")
        write(url, options(proxy.server))
        assert read(url, options(proxy.server))[5:7].tolist() == [50, 60]


def test_a_write_that_is_refused_since_another_is_under_way_is_tried_again(proxy: Proxy, url: str) -> None:
    """S3 answers 409 to one of two conditional puts at once, though the condition may hold still."""
    proxy.rule = of_chunk(Answer(409, "ConditionalRequestConflict"), times=2, method="PUT")
    write(url, options(proxy.server))
    assert read(url, options(proxy.server)).tolist() == [1, 2, 3, 4, 5, 50, 60, *range(8, 17)]


def test_a_conflict_that_is_none_is_told_apart(proxy: Proxy, url: str) -> None:
    """The put is performed and its reply lost: the second try meets the first one, which is its own."""
    proxy.rule = of_chunk(Answer(lose_reply=True), times=1, method="PUT")
    write(url, options(proxy.server))
    puts = [request for request in proxy.requests if request.method == "PUT" and request.path.endswith("/c/1")]
    assert len(puts) == 1
    assert read(url, options(proxy.server))[5:7].tolist() == [50, 60]


def test_a_listed_key_that_is_gone(proxy: Proxy) -> None:
    url = proxy.server.fresh_url()
    given = options(proxy.server)
    group = zarrant.create_group(url, storage_options=given)
    for name in ("a", "b"):
        group.create_array(name, shape=(4,), dtype="uint8")
    proxy.rule = lambda request: Answer(404, "NoSuchKey") if "/a/" in request.path and request.method in ("GET", "HEAD") else None
    try:
        assert list(zarrant.open_group(url, mode="r", storage_options=given).members()) == ["b"]
    finally:
        proxy.rule = lambda request: None


def test_a_chunk_that_is_gone_is_fill(proxy: Proxy, url: str) -> None:
    proxy.rule = of_chunk(Answer(404, "NoSuchKey"))
    assert read(url, options(proxy.server)).tolist() == [1, 2, 3, 4, 0, 0, 0, 0, *range(9, 17)]


def test_a_reply_that_is_too_late(proxy: Proxy, url: str) -> None:
    proxy.rule = of_chunk(Answer(delay_s=3), method="GET")
    given = options(proxy.server, client_options={"allow_http": True, "timeout": "300ms"})
    begin = time.monotonic()
    with pytest.raises(StoreError, match="c/1") as caught:
        read(url, given)
    assert time.monotonic() - begin < 30
    assert caught.value.retryable


@pytest.mark.parametrize("call", [read, write])
def test_a_bucket_that_is_not_there(moto: Server, call: Callable[..., Any]) -> None:
    with pytest.raises((StoreError, NodeNotFoundError)) as caught:
        call("s3://no-such-bucket/a", options(moto))
    assert "no-such-bucket" in str(caught.value)


def test_an_array_is_not_created_in_a_bucket_that_is_not_there(moto: Server) -> None:
    with pytest.raises(StoreError, match="bucket") as caught:
        zarrant.create_array("s3://no-such-bucket/a", shape=(4,), dtype="uint8", storage_options=options(moto))
    assert "no-such-bucket" in str(caught.value.store)


@pytest.mark.parametrize("call", [read, write])
def test_a_host_that_cannot_be_reached(moto: Server, call: Callable[..., Any]) -> None:
    given = options(moto, endpoint=f"http://{HOST}:{free_port()}")
    with pytest.raises(StoreError, match="reached") as caught:
        call("s3://zarrant/a", given)
    assert caught.value.retryable and "s3://zarrant" in str(caught.value.store)


def test_a_host_that_speaks_no_tls(moto: Server) -> None:
    given = options(moto, endpoint=moto.endpoint.replace("http:", "https:"))
    with pytest.raises(StoreError) as caught:
        read("s3://zarrant/a", given)
    assert "s3://zarrant" in str(caught.value.store)


WRONG_LENGTHS = {
    "bytes after its end": (Answer(surplus=9), True),
    "longer than the range": (Answer(longer=5), False),
    "shorter than the range": (Answer(longer=-1), False),
    "an empty range": (Answer(longer=-8), False),
}


@pytest.mark.parametrize(("what", "kind"), [*((what, "blocking") for what in WRONG_LENGTHS), ("shorter than the range", "awaited")])
def test_a_range_of_another_length(proxy: Proxy, what: str, kind: str) -> None:
    answer, served = WRONG_LENGTHS[what]
    url, given = proxy.server.fresh_url(), options(proxy.server)
    layout: Any = {"chunks": (8,), "shards": (64,), "compressors": None}
    zarrant.create_array(url, data=np.arange(64, dtype="uint8"), storage_options=given, **layout)
    proxy.rule = lambda request: answer if request.path.endswith("/c/0") and "=0-7" in str(request.headers) else None

    async def awaited() -> Any:
        return await (await zarrant.open_array_async(url, mode="r", storage_options=given)).getitem(slice(0, 8))

    def get() -> Any:
        return zarrant.open_array(url, mode="r", storage_options=given)[0:8] if kind == "blocking" else asyncio.run(awaited())

    try:
        if served:
            assert get().tolist() == list(range(8))
            return
        with pytest.raises(StoreError, match="c/0") as caught:
            get()
        assert caught.value.retryable
        once = iter([answer])
        proxy.rule = lambda request: next(once, None) if request.path.endswith("/c/0") and "=0-7" in str(request.headers) else None
        assert get().tolist() == list(range(8))
    finally:
        proxy.rule = lambda request: None


def test_a_condition_that_holds_and_is_refused(proxy: Proxy, url: str) -> None:
    """412, though nobody else writes: it is no conflict, and tried again."""
    proxy.rule = of_chunk(Answer(412, "PreconditionFailed"), times=2, method="PUT")
    write(url, options(proxy.server))
    assert read(url, options(proxy.server))[5:7].tolist() == [50, 60]


@pytest.mark.soak
def test_a_condition_that_is_always_refused(proxy: Proxy, url: str) -> None:
    """Such a service cannot be written to: it is said after so many tries, with pauses."""
    proxy.rule = lambda request: Answer(412, "PreconditionFailed") if request.method == "PUT" else None
    with pytest.raises(StoreError, match="c/1"):
        write(url, options(proxy.server))


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
def test_a_host_that_is_gone_before_a_conditional_put(moto: Server, kind: str) -> None:
    """It takes as long as the caller allows, and says what is the matter."""
    url = moto.fresh_url()
    with start_proxy(moto) as proxy:
        given = options(proxy.server)
        array = zarrant.create_array(url, data=VALUES, chunks=(4,), storage_options=given)
        store, prefix = resolve_store(url, given)
        version = store.version(f"{prefix}c/1")
    begin = time.monotonic()
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        if kind == "blocking":
            store.put_if(f"{prefix}c/1", [b"1"], version)
        else:
            asyncio.run(store.put_if_async(f"{prefix}c/1", [b"1"], version))
    assert caught.value.retryable and str(caught.value.key).endswith("c/1") and "3 tries" in str(caught.value.hint)
    with pytest.raises(StoreError, match="cannot be reached"):
        array[5:7] = [50, 60]
    assert time.monotonic() - begin < 10


def test_a_host_that_never_answers(moto: Server) -> None:
    with socket.create_server((HOST, 0)) as silent:  # it listens, and nobody accepts
        client = {"allow_http": True, "timeout": "200ms"}
        retries = {**FEW_TRIES, "retry_timeout": timedelta(seconds=1)}
        given = options(moto, endpoint=f"http://{HOST}:{silent.getsockname()[1]}", client_options=client, retry_config=retries)
        begin = time.monotonic()
        for call in (lambda store: store.get("a"), lambda store: store.put_if("a", [b"1"], None)):
            with pytest.raises(StoreError, match="timeout") as caught:
                call(resolve_store("s3://zarrant", given).store)
            assert caught.value.retryable and caught.value.key == "a"
        assert time.monotonic() - begin < 15


@pytest.mark.parametrize("name", ["azurite", "fake_gcs", "gofakes3"])
def test_a_container_that_is_not_there(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    address = server.url.replace("zarrant", "no-such-place")
    calls: list[Callable[..., Any]] = [
        lambda given: zarrant.create_array(f"{address}/a", shape=(4,), dtype="uint8", storage_options=given),
        lambda given: read(f"{address}/a", given),
    ]
    for call in calls:
        with pytest.raises((StoreError, NodeNotFoundError)) as caught:
            call(options(server))
        assert "no-such-place" in str(caught.value)


def test_a_clock_that_jumps(gofakes3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns and versions are not told by the clock: appends beside one that jumps for hours lose nothing."""
    url, real, dice = gofakes3.fresh_url(), time.time, random.Random(0)
    zarrant.create_array(url, shape=(0, 2), dtype="int32", chunks=(2, 2), storage_options=dict(gofakes3.storage_options))
    monkeypatch.setattr(time, "time", lambda: real() + dice.uniform(-1e5, 1e5))

    def append(worker: int) -> None:
        array = zarrant.open_array(url, mode="r+", storage_options={**gofakes3.storage_options, "coalesce_gap": worker})
        for number in range(5):
            array.append([[worker, number]])

    together(*[lambda worker=worker: append(worker) for worker in range(3)])
    found = zarrant.open_array(url, mode="r", storage_options=dict(gofakes3.storage_options))[...]
    assert sorted(map(tuple, found.tolist())) == [(worker, number) for worker in range(3) for number in range(5)]


def test_a_listing_that_lags(moto: Server) -> None:
    """What was just made is not listed yet: it is found by its name, nothing is lost, nothing is made twice."""
    with start_proxy(moto) as proxy:
        url, given = proxy.server.fresh_url(), options(proxy.server)
        group = zarrant.create_group(url, storage_options=given)
        first = group.create_array("first", shape=(4,), dtype="uint8")
        assert sorted(group) == ["first"]
        proxy.rule = lambda request: Answer(stale_body=True) if "list-type=2" in request.path else None
        first[...] = 1
        second = group.create_array("second", shape=(4,), dtype="uint8")
        second[...] = 2
        assert sorted(zarrant.open_group(url, mode="r", storage_options=given)) in (["first"], ["first", "second"])
        assert group["second"][...].tolist() == [2] * 4
        with pytest.raises(NodeExistsError):
            group.create_array("second", shape=(4,), dtype="uint8")
        second.append([3])
        proxy.rule = lambda request: None
        assert sorted(group) == ["first", "second"]
        assert (group["first"][...].tolist(), group["second"][...].tolist()) == ([1] * 4, [2, 2, 2, 2, 3])


def test_a_service_that_pairs_old_bytes_with_a_new_tag(moto: Server) -> None:
    """No request by itself shows it: the concurrent probe does, and sharing is refused before anything is written."""
    dice = random.Random(1)

    def rule(request: Request) -> Answer | None:
        return Answer(stale_body=True) if request.method == "GET" and "/count" in request.path and dice.random() < 0.5 else None

    with start_proxy(moto, rule) as proxy:
        url = proxy.server.fresh_url()
        with pytest.raises(CapabilityError, match=r"of 48 increments by 8 writers were lost"):
            zarrant.create_array(url, shape=(4,), dtype="uint8", storage_options=options(proxy.server, probe="full"))
        store, prefix = resolve_store(url, proxy.server.storage_options)
        assert list(store.list_prefix(prefix)) == []


@pytest.mark.soak
def test_wrong_credentials_of_s3(versitygw: Server) -> None:
    given = options(versitygw, secret_access_key="another-secret")
    with pytest.raises(StorePermissionError, match="credentials") as caught:
        zarrant.create_array(versitygw.fresh_url(), shape=(4,), dtype="uint8", storage_options=given)
    assert "another-secret" not in str(caught.value)


def test_wrong_credentials(azurite: Server) -> None:
    given = options(azurite, account_key="bm90IHRoZSBrZXkgb2YgdGhpcyBhY2NvdW50")
    with pytest.raises(StorePermissionError, match="credentials") as caught:
        zarrant.create_array(azurite.fresh_url(), shape=(4,), dtype="uint8", storage_options=given)
    assert "az://zarrant" in str(caught.value.store) and "bm90IHRoZSBr" not in str(caught.value)
