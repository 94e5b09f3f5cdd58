"""Locks that a service grants for a limited time (a lease): Redis and Dask, for stores that cannot keep writers apart themselves.

In: the keys of a store and a timeout. Out: a context manager whose value is a `Lease`; or LockTimeout, with none of the keys
locked. What each synchronizer does:

- Threads of this process queue here first (`locking/local.py`), so that one of them at a time asks the service for a key.
- Keys are locked in sorted order: two callers never wait for each other.
- A thread renews every lease of this process three times in the time for which it is granted. Where the process is killed
  nobody does, and the lock ends by itself.
- A process that was paused (SIGSTOP, a suspended machine) for longer than that has lost the lock without knowing. So
  `Lease.check` asks the service right before each write (`stores/synchronizer.py`), and renews the lease with the same request.
  A lock that was lost is never taken again by its lease.

A child that was forked has none of its parent's leases.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from zarrant.errors import CapabilityError, LockLostError, LockTimeout, OptionError, StoreError, ZarrantError
from zarrant.locking.local import Acquired, KeyQueues, lock_names, remake_after_fork, wait_cancelled

T = TypeVar("T")

LEASE_S = 10.0
"""For how long a lock outlives its killed owner. Renewed three times in it, so a pause of 6 s (a full collection, a swapping
machine) does no harm."""
FIRST_POLL_S, LAST_POLL_S = 0.001, 0.05
"""Between two requests for a busy key in Redis: about as long as one small update, up to what a person does not notice."""
SLICE_S = 1.0
"""The longest wait inside one request to a scheduler of Dask: then it is seen whether the caller was cancelled."""
REPLY_TIMEOUT_S = 5.0
"""How long a service may take for a reply that needs no waiting."""
PASSWORD = "ZARRANT_REDIS_PASSWORD"
"""The environment variable with the password of Redis, where the URL has none."""

_queues = KeyQueues()
_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def _now() -> float:
    """Seconds that also pass while the machine is suspended, where the system has such a clock."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Lease(Acquired):
    """Locks on keys, granted for a limited time.

    `token` is unique: the service knows the owner by it. `fence` is a number that grows with each grant, where the service
    counts; a store that compares it can refuse a writer whose lock another one has got since.
    """

    __slots__ = ("_gate", "fence", "granted", "keys", "lost", "pid", "renewed", "service", "token")

    def __init__(self, service: LeaseSynchronizer, keys: Sequence[str]) -> None:
        super().__init__()
        self.service, self.keys, self.pid = service, tuple(keys), os.getpid()
        self.token = f"{socket.gethostname()}:{self.pid}:{uuid.uuid4().hex}"
        self.fence: int | None = None
        self.granted = self.lost = False
        self.renewed = _now()
        self._gate = threading.Lock()

    def check(self) -> None:
        """LockLostError unless the service says that the keys are locked by this lease, which starts anew with it.

        StoreError where the service does not answer.
        """
        if self.pid != os.getpid():
            raise LockLostError("a lock of the parent process", store=self.service.address, key=self.keys[0])
        if not self.renew():
            raise LockLostError(
                "the lock ended before the write, which was not stored: this process was paused, or the service lost its data",
                store=self.service.address,
                key=self.keys[0],
                limit=f"a lease of {self.service.lease:g} s",
                hint="Do it again",
            )

    def renew(self) -> bool:
        """Start the lease anew; False where it was lost, from then on for ever."""
        with self._gate:
            start = _now()
            self.lost = self.lost or not self.service.extend(self)
            self.renewed = start
            return not self.lost

    def end(self) -> None:
        """Unlock the keys; the lease is lost with it. Never while it is being renewed, which could lock them again."""
        with self._gate:
            self.lost = True
            self.service.release(self)


class LeaseSynchronizer(ABC):
    """A `storage.Synchronizer` whose locks are leases of a service. Subclasses talk to the service."""

    def __init__(self, prefix: str, lease: float) -> None:
        if not isinstance(lease, int | float) or not lease > 0:
            raise OptionError("an impossible lease", field="lease", expected="seconds, more than 0", got=repr(lease))
        if not isinstance(prefix, str):
            raise OptionError("an impossible prefix", field="prefix", expected="text", got=repr(prefix))
        self.prefix, self.lease = prefix, float(lease)
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Start without leases."""
        self._gate = threading.Lock()
        self._leases: set[Lease] = set()
        self._renewer: threading.Thread | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """The service, without secrets."""

    @abstractmethod
    def acquire(self, lease: Lease, deadline: float) -> None:
        """Lock the keys of a lease; LockTimeout at the deadline."""

    @abstractmethod
    def extend(self, lease: Lease) -> bool:
        """Start a lease anew; False where one of its keys is not locked by it."""

    @abstractmethod
    def release(self, lease: Lease) -> None:
        """Unlock the keys that are locked by a lease."""

    @contextmanager
    def lock(self, keys: Sequence[str], timeout: float) -> Iterator[Lease]:
        """Lock keys; see `storage.Synchronizer`.

        Args:
            keys: keys of the store.
            timeout: seconds to wait for other writers.

        Raises:
            LockTimeout: another writer has one of them; none is locked.
            StoreError: the service does not answer.
        """
        start, ordered = time.monotonic(), sorted(set(keys))
        deadline = start + timeout
        names = {f"{self.address} {self.prefix} {key}": key for key in ordered}
        with lock_names(_queues, names, deadline, self.address):
            lease = Lease(self, ordered)
            try:
                self._begin(lease)
                try:
                    self.acquire(lease, deadline)
                except LockTimeout as error:
                    waited = f"{time.monotonic() - start:.3f} s waited"
                    raise error.annotate(got=waited, expected=f"a lock of {', '.join(ordered)}") from error.__cause__
                lease.granted = True
                yield lease
            finally:
                self._end(lease)

    def give_back(self, start: Acquired) -> None:
        """Release what this thread has locked since `start`; see `locking.local.give_back`."""
        for lease in [lease for lease in self._leases.copy() if lease.since(start)]:
            self._end(lease)

    def _begin(self, lease: Lease) -> None:
        with self._gate:
            self._leases.add(lease)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew_all, name="zarrant-leases", daemon=True)
                self._renewer.start()

    def _end(self, lease: Lease) -> None:
        with self._gate:
            if lease not in self._leases:  # given back already, or of the parent process
                return
            self._leases.discard(lease)
        try:
            lease.end()
        except StoreError:
            pass  # each write was checked, and the lock ends by itself: what was done is not undone by this

    def _renew_all(self) -> None:
        idle = 0
        while idle < 10:
            time.sleep(self.lease / 3)
            with self._gate:
                leases = [lease for lease in self._leases if lease.granted]
                idle = 0 if self._leases else idle + 1
                if idle == 10:
                    self._renewer = None
            for lease in leases:
                try:
                    lease.renew()
                except Exception:
                    pass  # the next write says so, if it is not over by then

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r}, prefix={self.prefix!r}, lease={self.lease:g})"


def _check_cancelled(key: str) -> None:
    cancelled = wait_cancelled.get()
    if cancelled is not None and cancelled():
        raise LockTimeout("the wait for a lock was cancelled", key=key)


# In each script KEYS are the locks and ARGV[1] is the token: a script that is sent twice does the same again.
_ACQUIRE = """
for i = 2, #KEYS do
  local owner = redis.call('get', KEYS[i])
  if owner and owner ~= ARGV[1] then return {i - 1, owner} end
  redis.call('set', KEYS[i], ARGV[1], 'PX', ARGV[2])
end
return {0, redis.call('incr', KEYS[1])}
"""
"""Locks keys in order, up to the first that another owner has; else the number of the grant, counted in KEYS[1]."""
_RENEW = """
for i = 1, #KEYS do if redis.call('get', KEYS[i]) ~= ARGV[1] then return 0 end end
for i = 1, #KEYS do redis.call('pexpire', KEYS[i], ARGV[2]) end
return 1
"""
_RELEASE = "for i = 1, #KEYS do if redis.call('get', KEYS[i]) == ARGV[1] then redis.call('del', KEYS[i]) end end"


class RedisSynchronizer(LeaseSynchronizer):
    """Locks in Redis, for stores that many processes and machines write. Needs the extra `redis`.

    Every writer of the store must use the same server, prefix and root of the store: the names of the locks are the prefix and
    the keys of the store. A server that forgets (a restart without persistence, a failover) ends all locks; writers that had one
    get LockLostError at their next write.

    Args:
        url: `redis://`, `rediss://` or `unix://`; or a `redis.Redis`.
        prefix: what the names of the locks begin with: one for each store.
        lease: seconds for which a lock outlives a killed owner.
        secrets: whether pickling keeps the password of the URL. Where it does not, a process that unpickles takes it from the
            environment variable `ZARRANT_REDIS_PASSWORD`.

    Raises:
        OptionError: an address or a lease that cannot be.
        CapabilityError: the library `redis` is not installed.

    >>> guard = RedisSynchronizer("redis://:secret@cache.example:6379/0", prefix="ocean.zarr")
    >>> guard
    RedisSynchronizer('redis://cache.example:6379/0', prefix='ocean.zarr', lease=10)
    """

    def __init__(
        self, url: Any = "redis://localhost:6379/0", *, prefix: str = "zarrant", lease: float = LEASE_S, secrets: bool = False
    ) -> None:
        super().__init__(prefix, lease)
        redis = _imported("redis", "redis")
        self.secrets = secrets
        self._given = None if isinstance(url, str) else url
        self._url: str = url if isinstance(url, str) else _url_of_client(url)
        self._client: Any = self._connected(redis)
        self._scripts = {text: self._client.register_script(text) for text in (_ACQUIRE, _RENEW, _RELEASE)}
        # One hash slot of a cluster for all of them: a script may use keys of one slot only.
        self._name = f"{{{prefix}}}:lock:"

    def _connected(self, redis: Any) -> Any:
        if self._given is not None:
            return self._given
        retry = redis.retry.Retry(redis.backoff.ExponentialBackoff(cap=0.2, base=0.02), 1)
        options: dict[str, Any] = {"socket_timeout": REPLY_TIMEOUT_S, "socket_connect_timeout": REPLY_TIMEOUT_S, "retry": retry}
        password = os.environ.get(PASSWORD)
        if password is not None and urlsplit(self._url).password is None:
            options["password"] = password
        try:
            return redis.Redis.from_url(self._url, **options)
        except ValueError as error:
            expected = "redis://, rediss:// or unix://"
            raise OptionError("not an address of Redis", field="url", expected=expected, got=_public(self._url)) from error

    @property
    def address(self) -> str:
        """The URL of the server, without secrets."""
        return _public(self._url)

    def acquire(self, lease: Lease, deadline: float) -> None:
        pause = FIRST_POLL_S
        while True:
            busy, found = self._run(_ACQUIRE, lease, f"{{{self.prefix}}}:grants")
            if not busy:
                lease.fence = int(found)
                return
            key, left = lease.keys[busy - 1], deadline - time.monotonic()
            if left <= 0:
                owner = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
                hint = f"Its owner is host and process {owner.rpartition(':')[0]}"
                raise LockTimeout("another writer has the lock", store=self.address, key=key, hint=hint)
            _check_cancelled(key)
            time.sleep(min(left, random.uniform(pause / 2, pause)))
            pause = min(2 * pause, LAST_POLL_S)

    def extend(self, lease: Lease) -> bool:
        return bool(self._run(_RENEW, lease))

    def release(self, lease: Lease) -> None:
        self._run(_RELEASE, lease)

    def _run(self, script: str, lease: Lease, *names: str) -> Any:
        keys = [*names, *(self._name + key for key in lease.keys)]
        redis = _imported("redis", "redis")
        try:
            return self._scripts[script](keys=keys, args=[lease.token, max(1, int(self.lease * 1000))])
        except redis.exceptions.AuthenticationError as error:
            raise self._failed(error, lease, f"Give the password in the URL, or in {PASSWORD}") from error
        except redis.exceptions.RedisError as error:
            raise self._failed(error, lease, None) from error

    def _failed(self, error: Exception, lease: Lease, hint: str | None) -> StoreError:
        return StoreError(
            "Redis failed; the write was not stored", store=self.address, key=lease.keys[0], got=str(error), hint=hint
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self._given is not None and not self._url:
            raise CapabilityError("a client whose address is not known cannot be pickled", hint="Make it from a URL")
        url = self._url if self.secrets else self.address
        return _redis, (url, self.prefix, self.lease, self.secrets)


def _redis(url: str, prefix: str, lease: float, secrets: bool) -> RedisSynchronizer:
    return RedisSynchronizer(url, prefix=prefix, lease=lease, secrets=secrets)


def _url_of_client(client: Any) -> str:
    """The URL of a client, with its password; "" where it has more than one server."""
    if not callable(getattr(client, "register_script", None)):
        raise OptionError("not an address of Redis", field="url", expected="a URL, or a redis.Redis", got=repr(client))
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    user, password = options.get("username") or "", options.get("password")
    account = f"{user}:{password}@" if password else f"{user}@" if user else ""
    if "path" in options:
        return f"unix://{account}{options['path']}?db={options.get('db') or 0}"
    if "host" not in options:
        return ""
    secure = "SSL" in client.connection_pool.connection_class.__name__
    scheme = "rediss" if secure else "redis"
    return f"{scheme}://{account}{options['host']}:{options.get('port', 6379)}/{options.get('db') or 0}"


def _public(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    user = account.partition(":")[0]
    query = "&".join(item for item in parts.query.split("&") if not item.startswith("password="))
    return f"{parts.scheme}://{user}{'@' if user else ''}{host}{parts.path}{'?' if query else ''}{query}"


def _imported(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f"pip install 'zarrant[{extra}]'"
        raise CapabilityError(f"the library {module} is not installed", expected=module, hint=hint) from error


_clients: dict[tuple[str, int], Any] = {}
"""Clients of Dask that were made here, by scheduler and process."""


class DaskSynchronizer(LeaseSynchronizer):
    """Locks in the scheduler of Dask, for stores that its workers write. Needs the extra `dask`.

    They are semaphores of one lease each, of the kind that `distributed.Lock` uses. Unlike a `Lock`, a lease that has ended is
    never refreshed: a worker that was paused cannot come back as a second owner. The scheduler keeps about 1 kB for each key
    that was ever locked.

    Args:
        client: a `distributed.Client`; the one of this process, or of the task of a worker, if not given. Pickled, the
            synchronizer carries the address of the scheduler.
        prefix: what the names of the locks begin with: one for each store.
        lease: seconds for which a lock outlives a killed owner. The scheduler looks every
            `distributed.scheduler.locks.lease-validation-interval` (10 s) and adds up to that.

    Raises:
        OptionError: the client is one for coroutines, or a lease that cannot be.
        CapabilityError: the library `distributed` is not installed, or this process has no client.

    >>> guard = DaskSynchronizer(distributed.Client("tcp://scheduler:8786"), prefix="ocean.zarr")  # doctest: +SKIP
    """

    def __init__(self, client: Any = None, *, prefix: str = "zarrant", lease: float = LEASE_S) -> None:
        super().__init__(prefix, lease)
        distributed = _imported("distributed", "dask")
        if client is None:
            try:
                client = distributed.get_client()
            except ValueError as error:
                hint = "Make a distributed.Client first, or give one"
                raise CapabilityError("this process has no client of Dask", expected="client", hint=hint) from error
        if not isinstance(client, distributed.Client) or client.asynchronous:
            raise OptionError("not a blocking client", field="client", expected="distributed.Client(...)", got=repr(client))
        self._address: str = client.scheduler.address
        self._given: Any = client

    @property
    def address(self) -> str:
        """The address of the scheduler."""
        return self._address

    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        distributed = _imported("distributed", "dask")
        try:
            client = distributed.get_client()
            if client.scheduler.address == self._address and not client.asynchronous:
                return client
        except ValueError:
            pass
        with self._gate:
            key = (self._address, os.getpid())
            if key not in _clients:
                _clients[key] = distributed.Client(self._address, set_as_default=False)
            return _clients[key]

    def remake(self) -> None:
        """Start without leases and, in a child, with a connection of its own."""
        super().remake()
        self._given = None

    def acquire(self, lease: Lease, deadline: float) -> None:
        while not self._acquire_each(lease, deadline):
            self.release(lease)  # an earlier key was lost during the wait for a later one: again, in order

    def _acquire_each(self, lease: Lease, deadline: float) -> bool:
        for number, key in enumerate(lease.keys):
            self._call("register", lease, key, max_leases=1, lease_timeout=self.lease)
            while True:
                start, left = _now(), deadline - time.monotonic()
                if self._call("acquire", lease, key, timeout=max(0.0, min(left, SLICE_S, self.lease / 3)), lease_id=lease.token):
                    break
                if left <= 0:
                    raise LockTimeout("another writer has the lock", store=self.address, key=key)
                _check_cancelled(key)
                if number and not self._again(lease, lease.keys[:number]):
                    return False
            if not number:
                lease.renewed = start
        return len(lease.keys) < 2 or self._again(lease, lease.keys)

    def _again(self, lease: Lease, keys: Sequence[str]) -> bool:
        """Acquire keys again, which makes the lease last longer. It would also take what has ended, and is free now: but that
        cannot be where the reply comes before the lease can have ended, because the scheduler counts from later than we do."""
        before, start = lease.renewed, _now()
        try:
            every = all(self._call("acquire", lease, key, timeout=0, lease_id=lease.token) for key in keys)
        except LockLostError:
            return False
        lease.renewed = start
        return every and _now() - before < self.lease

    def extend(self, lease: Lease) -> bool:
        return self._again(lease, lease.keys)

    def release(self, lease: Lease) -> None:
        for key in lease.keys:
            self._call("release", lease, key, lease_id=lease.token)

    def _call(self, what: str, lease: Lease, key: str, **options: Any) -> Any:
        limit = REPLY_TIMEOUT_S + options.get("timeout", 0)
        try:
            client = self._client()
            call = getattr(client.scheduler, f"semaphore_{what}")
            return client.sync(call, name=f"{self.prefix}:{key}", callback_timeout=limit, **options)
        except ZarrantError:
            raise
        except Exception as error:
            if "not known" in str(error):  # a scheduler that was started anew
                raise LockLostError("the scheduler does not know the lock", store=self.address, key=key) from error
            message = "the scheduler of Dask failed; the write was not stored"
            raise StoreError(message, store=self.address, key=key, got=f"{type(error).__name__}: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _dask, (self._address, self.prefix, self.lease)


def _dask(address: str, prefix: str, lease: float) -> DaskSynchronizer:
    made = DaskSynchronizer.__new__(DaskSynchronizer)
    LeaseSynchronizer.__init__(made, prefix, lease)
    made._address = address
    return made
