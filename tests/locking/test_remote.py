"""Locks that Redis and Dask grant: nothing is lost, a paused owner stores nothing, a killed one blocks nobody for long."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import ended, go, waiting
from guarded import redis_writer_path
from guarded.stores import KINDS, store_of
from servers.redis import start_redis
from zarrant.errors import CapabilityError, LockLostError, LockTimeout, OptionError, ReentrantLockError, StoreError
from zarrant.locking import remote
from zarrant.locking.remote import DaskSynchronizer, RedisSynchronizer
from zarrant.testkit import together

redis = pytest.importorskip("redis")

LAYOUT: dict[str, Any] = {"shape": (400,), "dtype": "uint32", "chunks": (8,), "shards": (400,)}
WORKERS = 2
both_kinds = pytest.mark.parametrize("kind", KINDS)
soaked = [pytest.param(8, 50, kind, marks=pytest.mark.soak) for kind in KINDS]
few_or_many = pytest.mark.parametrize(("processes", "times", "kind"), [(3, 12, "plain"), *soaked])


@pytest.fixture
def guard(redis_url: str, tmp_path: Path) -> RedisSynchronizer:
    return RedisSynchronizer(redis_url, prefix=str(tmp_path))


def writer(what: str, kind: str, path: Path, guard: RedisSynchronizer, number: int = 0, times: int = 0) -> Any:
    """A process of `redis_writer.py`."""
    return waiting(redis_writer_path, what, kind, path, guard.address, guard.lease, number, times)


def said(child: Any) -> str:
    return str(child.stdout.readline().strip())


def opened(kind: str, path: Path, guard: Any, **layout: Any) -> Any:
    return zarrant.create_array(store_of(kind, path), synchronizer=guard, **{**LAYOUT, **layout})


# ── nothing is lost ────────────────────────────────────────────────────────────────────────────────────────────────────


@few_or_many
def test_updates_of_one_shard_by_many_processes(
    tmp_path: Path, guard: RedisSynchronizer, processes: int, times: int, kind: str
) -> None:
    a = opened(kind, tmp_path, guard)
    with ExitStack() as stack:
        children = [stack.enter_context(writer("update", kind, tmp_path, guard, number, times)) for number in range(processes)]
        for child in children:
            go(child)
        assert [said(child) for child in children] == ["done"] * processes
    assert (a[: 8 * times].reshape(times, 8)[:, :processes] == np.arange(1, times + 1)[:, None]).all()


@few_or_many
def test_appends_by_many_processes(tmp_path: Path, guard: RedisSynchronizer, processes: int, times: int, kind: str) -> None:
    a = opened(kind, tmp_path, guard, shape=(0,), shards=None)
    with ExitStack() as stack:
        children = [stack.enter_context(writer("append", kind, tmp_path, guard, number, times)) for number in range(processes)]
        for child in children:
            go(child)
        assert [said(child) for child in children] == ["done"] * processes
    a.refresh()
    rows = a[...].reshape(-1, 3)
    assert (rows == rows[:, :1]).all()
    assert np.bincount(rows[:, 0]).tolist() == [0, *[times] * processes]


def test_threads_and_coroutines(tmp_path: Path, guard: RedisSynchronizer) -> None:
    a = opened("plain", tmp_path, guard)

    async def work() -> None:
        b = await zarrant.open_array_async(store_of("plain", tmp_path), mode="r+", synchronizer=guard)
        await asyncio.gather(*(b.setitem(i, i) for i in range(20, 40)))

    together(*(lambda i=i: a.__setitem__(i, i) for i in range(20)), lambda: asyncio.run(work()))
    assert a[:40].tolist() == list(range(40))
    assert "RedisSynchronizer" in repr(a)


# ── owners that are killed or paused ───────────────────────────────────────────────────────────────────────────────────


def test_the_lock_of_a_killed_owner_ends(tmp_path: Path, redis_url: str) -> None:
    guard = RedisSynchronizer(redis_url, prefix=str(tmp_path), lease=1)
    a = opened("plain", tmp_path, guard).with_config(lock_timeout=0.2)
    with writer("keep", "plain", tmp_path, guard) as child:
        go(child)
        assert said(child) == "locked"
        time.sleep(1.5)  # longer than the lease, which is renewed
        with pytest.raises(LockTimeout) as caught:
            a[1] = 1
        assert (caught.value.key, caught.value.store) == ("c/0", guard.address)
        assert "waited" in str(caught.value)
        assert f":{child.pid}" in str(caught.value.hint)
        child.kill()
        start = time.monotonic()
        a.with_config(lock_timeout=10.0)[1] = 1
        assert time.monotonic() - start < 2
    assert a[:2].tolist() == [1, 1]


@both_kinds
@pytest.mark.parametrize("what", ["pause", "pause at the write"])
def test_a_paused_owner_cannot_overwrite(tmp_path: Path, redis_url: str, kind: str, what: str) -> None:
    """`SIGSTOP` for longer than the lease: before the check of the lock, and after it.

    A store that cannot compare versions is not protected after the check; that case ends with an error all the same.
    """
    guard = RedisSynchronizer(redis_url, prefix=str(tmp_path), lease=0.4)
    a = opened(kind, tmp_path, guard)
    a[:] = 5
    with writer(what, kind, tmp_path, guard) as child:
        go(child)
        assert said(child) == "stopped"
        for i in range(8):
            a[i] = 100 + i
        os.kill(child.pid, signal.SIGCONT)
        assert said(child) == "LockLostError"
    if (kind, what) != ("plain", "pause at the write"):
        assert a[:9].tolist() == [*range(100, 108), 5]


@both_kinds
def test_a_paused_append_stores_nothing_where_others_have(tmp_path: Path, redis_url: str, kind: str) -> None:
    """The lock of the metadata is checked for chunks too, which are locked inside of it."""
    guard = RedisSynchronizer(redis_url, prefix=str(tmp_path), lease=0.4)
    a = opened(kind, tmp_path, guard, shape=(8,), shards=None)
    with writer("pause in an append", kind, tmp_path, guard) as child:
        go(child)
        assert said(child) == "stopped"  # right before it writes the first of four chunks, whose lock was checked
        a.append(np.full(32, 7, "uint32"))
        os.kill(child.pid, signal.SIGCONT)
        assert said(child) == "LockLostError"
    a.refresh()
    assert a.shape == (40,)
    assert (a[16:] == 7).all()
    assert kind == "plain" or (a[8:16] == 7).all()


# ── the service ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_goes_away(tmp_path: Path) -> None:
    with start_redis() as url:
        guard = RedisSynchronizer(url, prefix="gone")
        a = opened("plain", tmp_path, guard)
        a[0] = 1
        lock = a.lock(np.s_[:])
        locked = lock.__enter__()
    with pytest.raises(StoreError, match="Redis failed") as caught:
        locked[1] = 1
    lock.__exit__(None, None, None)  # the lock ends by itself
    with pytest.raises(StoreError, match="Redis failed") as caught:
        a[1] = 1
    assert (caught.value.store, caught.value.key) == (url, "c/0")
    assert a[:2].tolist() == [1, 0]


def test_a_server_that_forgets(tmp_path: Path, redis_url: str, guard: RedisSynchronizer) -> None:
    a = opened("plain", tmp_path, guard)
    with pytest.raises(LockLostError, match="ended during a write"), a.lock(np.s_[:]) as locked:
        locked[0] = 1
        redis.Redis.from_url(redis_url).flushdb()
        with pytest.raises(LockLostError, match="was not stored") as caught:
            locked[1] = 1
        assert caught.value.retryable
    assert a[:2].tolist() == [1, 0]
    a[1] = 2


def test_grants_are_numbered_and_locks_removed(redis_url: str, guard: RedisSynchronizer) -> None:
    fences = []
    for keys in (["a"], ["b", "a"], ["c"]):
        with guard.lock(keys, 1) as lease:
            fences.append(lease.fence)
            lease.check()
            assert lease.keys == tuple(sorted(keys))
    assert fences == sorted(set(fences))
    assert not redis.Redis.from_url(redis_url).keys(f"{{{guard.prefix}}}:lock:*")
    with pytest.raises(LockLostError):
        lease.check()


def test_all_keys_or_none(guard: RedisSynchronizer) -> None:
    other = RedisSynchronizer(redis.Redis.from_url(guard.address), prefix=guard.prefix)
    with guard.lock(["b"], 1):
        for keys in (["a", "b"], ["b", "c"]):
            with pytest.raises(LockTimeout) as caught:
                together(lambda keys=keys: other.lock(keys, 0.1).__enter__())
            assert caught.value.key == "b"
        together(lambda: _use(other, ["a", "c"]))
    with other.lock(["a", "b", "c"], 0.1):
        pass


def _use(guard: Any, keys: list[str]) -> None:
    with guard.lock(keys, 0.1):
        pass


def test_a_caller_does_not_wait_for_itself(guard: RedisSynchronizer) -> None:
    with guard.lock(["a"], 1), pytest.raises(ReentrantLockError), guard.lock(["a"], 60):
        pass


def test_a_forked_child_has_no_lease(guard: RedisSynchronizer) -> None:
    with guard.lock(["a"], 1) as lease:
        child = os.fork()
        if child == 0:
            try:
                lease.check()
            except LockLostError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 7
        lease.check()


def test_an_interrupt_gives_it_back(tmp_path: Path, guard: RedisSynchronizer) -> None:
    a = opened("plain", tmp_path, guard)

    def interrupt(part: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        a.update(np.s_[0:1], interrupt)
    assert not guard._leases
    a[0] = 1


# ── what is pickled and refused ────────────────────────────────────────────────────────────────────────────────────────


def test_secrets_are_pickled_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis://me:secret@localhost:1/3"
    for secrets, kept in ((False, "redis://me@localhost:1/3"), (True, url)):
        client = redis.Redis.from_url(url)
        for made in (RedisSynchronizer(url, prefix="p", lease=3, secrets=secrets), RedisSynchronizer(client, secrets=secrets)):
            data = pickle.dumps(made)
            again = pickle.loads(data)
            assert again._url == kept
            assert (b"secret@" in data, again.prefix, again.lease) == (secrets, made.prefix, made.lease)
            assert "secret" not in repr(made) + made.address
    monkeypatch.setenv(remote.PASSWORD, "other")
    again = pickle.loads(pickle.dumps(RedisSynchronizer(url)))
    assert again._client.connection_pool.connection_kwargs["password"] == "other"
    assert RedisSynchronizer(url)._client.connection_pool.connection_kwargs["password"] == "secret"
    for address in ("unix:///tmp/none.sock?db=2", "rediss://localhost:7/1"):
        assert pickle.loads(pickle.dumps(RedisSynchronizer(redis.Redis.from_url(address)))).address == address


def test_a_wrong_password_is_said() -> None:
    with start_redis() as url:
        redis.Redis.from_url(url).config_set("requirepass", "right")
        with pytest.raises(StoreError) as caught, RedisSynchronizer(url.replace("//", "//:wrong@")).lock(["a"], 1):
            pass
        with RedisSynchronizer(url.replace("//", "//:right@")).lock(["a"], 1):
            pass
    assert remote.PASSWORD in str(caught.value.hint)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"url": "ftp://none"}, "url"),
        ({"url": "localhost"}, "url"),
        ({"url": 3}, "url"),
        ({"lease": 0}, "lease"),
        ({"lease": "10"}, "lease"),
        ({"prefix": None}, "prefix"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        RedisSynchronizer(**options)
    assert caught.value.field == field


@pytest.mark.parametrize(("make", "extra"), [(RedisSynchronizer, "redis"), (DaskSynchronizer, "dask")])
def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], extra: str) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CapabilityError) as caught:
        make()
    assert f"zarrant[{extra}]" in str(caught.value.hint)


# ── Dask ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.scheduler.locks.lease-validation-interval": "100ms"}),
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as made,
    ):
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    import distributed

    with distributed.Client(cluster) as made:
        yield made


def _update_in_worker(path: str, guard: Any, number: int, times: int) -> None:
    a = zarrant.open_array(store_of("plain", path), mode="r+", synchronizer=guard)
    for i in range(times):
        a[number + WORKERS * i] = i + 1


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_updates_of_one_shard_by_workers(tmp_path: Path, client: Any, times: int) -> None:
    guard = DaskSynchronizer(client, prefix=str(tmp_path))
    a = opened("plain", tmp_path, guard)
    tasks = [client.submit(_update_in_worker, str(tmp_path), guard, number, times, pure=False) for number in range(WORKERS)]
    client.gather(tasks)
    assert (a[: WORKERS * times].reshape(times, WORKERS) == np.arange(1, times + 1)[:, None]).all()
    assert DaskSynchronizer().address == guard.address


def test_keys_of_dask_exclude_each_other(client: Any) -> None:
    guard, other = DaskSynchronizer(client), pickle.loads(pickle.dumps(DaskSynchronizer(client)))
    entered, leave = threading.Event(), threading.Event()

    def keep() -> None:
        with guard.lock(["b", "c"], 1) as lease:
            lease.check()
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=keep)
    thread.start()
    entered.wait()
    remote._queues.remake()  # as another process
    start = time.monotonic()
    with pytest.raises(LockTimeout) as caught, other.lock(["a", "b"], 0.3):
        pass
    assert 0.2 < time.monotonic() - start < 5
    assert caught.value.key == "b"
    leave.set()
    thread.join()
    with other.lock(["a", "b", "c"], 1):
        pass


def test_a_lease_of_dask_ends_without_renewal(client: Any) -> None:
    guard, other = DaskSynchronizer(client, lease=0.5), DaskSynchronizer(client, lease=0.5)
    with guard.lock(["k"], 1) as lease:
        time.sleep(1)
        lease.check()  # it was renewed
        lease.granted = False  # as if the process were paused
        remote._queues.remake()
        with other.lock(["k"], 5), pytest.raises(LockLostError):
            lease.check()
        with pytest.raises(LockLostError):
            lease.check()  # though nobody has it now


def test_a_scheduler_that_goes_away(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as made:
        client = distributed.Client(made)
        a = opened("plain", tmp_path, DaskSynchronizer(client))
        a[0] = 1
    with pytest.raises(StoreError, match="scheduler") as caught:
        a[1] = 1
    assert caught.value.key == "c/0"
    assert a[:2].tolist() == [1, 0]
    client.close()


def test_a_client_is_needed() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(CapabilityError):
        DaskSynchronizer()
    with pytest.raises(OptionError):
        DaskSynchronizer("tcp://localhost:8786")
