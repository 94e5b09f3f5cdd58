"""A store that fails on purpose: for tests of what a program does then.

In: any store, and a list of `Fault`: what goes wrong, in which calls, and when (the k-th of them, from then on, or by chance with a
seed). Out: `Faults`, which does the same but for these calls, and lists in `happened` what it did. What is wrong by one of these
kinds is wrong as with real services: each is a finding about one of them.

| kind | what the caller sees |
|---|---|
| `error` | the error, and nothing was done (an outage, a wrong permission, a full disk) |
| `lost reply` | the same error, though it was done |
| `truncated` | a whole object that ends too early; its size is the true one |
| `short ranges`, `long ranges` | the last range with a byte less, or a few more |
| `stale read` | the object before its last write, with its version: an old replica |
| `mixed read` | the bytes before the last write, with the version of now: bytes and tags are stored apart |
| `lagging list` | a listing in which the last write of each key has not arrived |
| `ignored condition` | `put_if`, `erase_if` and ranges of a version take any version |
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from zarrant.errors import ByteRangeError, OptionError, StoreError, ZarrantError
from zarrant.locking.local import remake_after_fork
from zarrant.storage import ANY, Blob, Buffer, ByteRange, Part, Version, capabilities, expect_version
from zarrant.stores.wrappers.each_call import Call, EachCall

T = TypeVar("T")

_READS = ("get", "get_ranges")
_WRITES_OF_KEYS = ("put", "put_if", "splice", "erase", "erase_if")
_WRITES = (*_WRITES_OF_KEYS, "erase_prefix")
_LISTS = ("list_prefix", "list_dir")

METHODS: dict[str, tuple[str, ...]] = {
    "error": (*_READS, *_WRITES, *_LISTS, "version", "is_unchanged", "erase_link", "lock", "commit", "sync"),
    "lost reply": (*_READS, *_WRITES, *_LISTS, "version", "is_unchanged", "erase_link", "commit", "sync"),
    "truncated": ("get",),
    "short ranges": ("get_ranges",),
    "long ranges": ("get_ranges",),
    "stale read": _READS,
    "mixed read": _READS,
    "lagging list": _LISTS,
    "ignored condition": ("put_if", "erase_if", "splice", "get_ranges"),
}
"""The calls to which each kind of fault can happen."""

_NEEDS_PAST = ("stale read", "mixed read", "lagging list")


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    Args:
        kind: One of `METHODS`.
        at: The call to which it happens: 0 is the first one of those that fit `methods` and `key`.
        forever: From that call on, and not to it alone.
        probability: By chance, to each call that fits.
        methods: Only these calls, such as `("put", "put_if")`; None: all to which the kind can happen.
        key: A regular expression that the whole key must match.
        error: The class of the error, of `error` and `lost reply`.

    Raises:
        OptionError: A kind or a method that is not known, a fault that never happens.

    >>> third = Fault("error", at=2, methods=("get",))
    >>> third.fits(Call("get", "c/0")), third.fits(Call("put", "c/0"))
    (True, False)
    """

    kind: str
    at: int | None = None
    forever: bool = False
    probability: float = 0.0
    methods: tuple[str, ...] | None = None
    key: str = ".*"
    error: type[Exception] = StoreError

    def __post_init__(self) -> None:
        if self.kind not in METHODS:
            raise OptionError("unknown kind of fault", field="kind", expected=", ".join(METHODS), got=repr(self.kind))
        wrong = [name for name in self.methods or () if name not in METHODS[self.kind]]
        if wrong:
            expected = ", ".join(METHODS[self.kind])
            raise OptionError("this cannot happen to that call", field="methods", expected=expected, got=repr(wrong[0]))
        if self.at is None and not 0 < self.probability <= 1:
            raise OptionError("a fault that never happens", field="at", expected="a number of a call, or a probability", got="none")

    def fits(self, call: Call) -> bool:
        """Whether it can happen to a call."""
        return call.method in (METHODS[self.kind] if self.methods is None else self.methods) and (
            re.fullmatch(self.key, call.key, re.DOTALL) is not None
        )


class Happened(NamedTuple):
    """A fault that happened to a call."""

    kind: str
    call: Call


class _Script:
    """Which calls of a store fail; shared by all forms of it."""

    def __init__(self, faults: tuple[Fault, ...], seed: int | None) -> None:
        self.faults, self.dice = faults, random.Random(seed)
        self.counts = [0] * len(faults)
        self.happened: list[Happened] = []
        self.before: dict[str, Blob | None] = {}
        self.keeps_past = any(fault.kind in _NEEDS_PAST for fault in faults)
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.lock = threading.Lock()

    def choose(self, call: Call, ignoring: bool = False) -> Fault | None:
        """The fault of a call, or (`ignoring`) whether its condition is ignored.

        Each call that fits a fault counts for it, whether or not another one comes first.
        """
        chosen: Fault | None = None
        with self.lock:
            for number, fault in enumerate(self.faults):
                if not fault.fits(call) or (fault.kind == "ignored condition") is not ignoring:
                    continue
                count = self.counts[number]
                self.counts[number] += 1
                due = fault.at is not None and (count == fault.at or (fault.forever and count > fault.at))
                lucky = fault.probability > 0 and self.dice.random() < fault.probability
                if chosen is None and (due or lucky):
                    chosen = fault
        return chosen

    def note(self, kind: str, call: Call) -> None:
        self.happened.append(Happened(kind, call))


class Faults(EachCall):
    """Fails where its faults say so.

    Args:
        store: Any store.
        faults: What goes wrong. Where several fit a call the first one happens.
        seed: Of the random numbers of faults that happen by chance.

    `happened` lists the faults that happened. A form of the store that is pickled begins to count anew.

    >>> from zarrant.stores.memory import MemoryStore
    >>> store = Faults(MemoryStore(), Fault("lost reply", at=1, methods=("put",)))
    >>> version = store.put("a", [b"1"])
    >>> store.put("a", [b"2"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    zarrant.errors.StoreError: injected fault: got lost reply (store memory://..., key a)
    >>> bytes(store.get("a").data[0])
    b'2'
    """

    misbehaves = True
    lacks = ("put_all",)  # each object is stored by a call that can fail by itself

    def __init__(self, store: object, *faults: Fault, seed: int | None = None) -> None:
        super().__init__(store)
        self.faults, self.seed = faults, seed
        self._script = _Script(faults, seed)

    @property
    def happened(self) -> list[Happened]:
        """The faults that happened so far, in their order."""
        return self._script.happened

    @property
    def _settings(self) -> tuple[Any, ...]:
        return self.faults

    def __repr__(self) -> str:
        return f"Faults({self.store!r}, {len(self.faults)} faults)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.store, self.faults, self.seed)

    # ── what goes wrong with any call ────────────────────────────────────────────────────────────────────────────────

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        fault = self._before(call)
        if self._keeps_past(call):
            self._script.before[call.key] = self._inside.get(call.key)
        if fault is not None and self._is_stale(fault, call):
            return cast("T", self._past(fault, call))
        reply = act()
        return reply if fault is None else self._spoilt(fault, call, reply)

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        fault = self._before(call)
        if self._keeps_past(call):
            self._script.before[call.key] = await self._inside.get_async(call.key)
        if fault is not None and self._is_stale(fault, call):
            return cast("T", self._past(fault, call))
        reply = await act()
        return reply if fault is None else self._spoilt(fault, call, reply)

    def _before(self, call: Call) -> Fault | None:
        fault = self._script.choose(call)
        if fault is not None and fault.kind == "error":
            raise self._error(fault, call)
        return fault

    def _keeps_past(self, call: Call) -> bool:
        """Whether the object must be read before the call replaces it, so that it can be shown later."""
        return self._script.keeps_past and call.method in _WRITES_OF_KEYS and capabilities(self.store).get

    def _error(self, fault: Fault, call: Call) -> Exception:
        self._script.note(fault.kind, call)
        if issubclass(fault.error, ZarrantError):
            return fault.error("injected fault", store=self.url, key=call.key or None, got=fault.kind)
        return fault.error(f"injected fault: {fault.kind}")

    def _is_stale(self, fault: Fault, call: Call) -> bool:
        """Whether an old replica answers the call; one that has no other object than the store answers as the store."""
        return fault.kind == "stale read" and call.key in self._script.before

    def _past(self, fault: Fault, call: Call) -> Blob | None:
        """The reply that the object before its last write gives."""
        self._script.note(fault.kind, call)
        past = self._script.before[call.key]
        if past is None or call.ranges is None:
            return past
        found = _ranges(call, _bytes(past))
        if found is None:
            got = f"{past.size} bytes"
            raise ByteRangeError("range outside the object", store=self.url, key=call.key, expected=call.ranges, got=got)
        return Blob(found, past.version, past.size)

    def _spoilt(self, fault: Fault, call: Call, reply: T) -> T:
        """The reply, made wrong; as it is where that cannot be."""
        if fault.kind == "lost reply":
            raise self._error(fault, call)
        before = self._script.before
        wrong: object = reply
        if fault.kind == "lagging list":
            wrong = _lagging(call.key, reply, before)
        elif isinstance(reply, Blob) and fault.kind in _SPOIL:
            wrong = _SPOIL[fault.kind](call, reply, before.get(call.key))
        if wrong is not reply:
            self._script.note(fault.kind, call)
        return cast("T", wrong)

    # ── conditions that are ignored ──────────────────────────────────────────────────────────────────────────────────

    def _ignores(self, method: str, key: str) -> bool:
        call = Call(method, key)
        ignores = self._script.choose(call, ignoring=True) is not None
        if ignores:
            self._script.note("ignored condition", call)
        return ignores

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        condition = None if if_version is not None and self._ignores("get_ranges", key) else if_version
        return self._of_version(super().get_ranges(key, ranges, condition), condition, key)

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`."""
        condition = None if if_version is not None and self._ignores("get_ranges", key) else if_version
        return self._of_version(await super().get_ranges_async(key, ranges, condition), condition, key)

    def _of_version(self, blob: Blob | None, if_version: Version, key: str) -> Blob | None:
        if if_version is not None:  # an old replica refuses too
            expect_version(None if blob is None else blob.version, if_version, self.url, key)
        return blob

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        return self.put(key, parts) if self._ignores("put_if", key) else super().put_if(key, parts, if_version)

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.AsyncPutIf`."""
        ignores = self._ignores("put_if", key)
        return await (self.put_async(key, parts) if ignores else super().put_if_async(key, parts, if_version))

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """See `storage.Splice`."""
        return super().splice(key, parts, ANY if self._ignores("splice", key) else if_version)

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.EraseIf`."""
        return self.erase(key) if self._ignores("erase_if", key) else super().erase_if(key, if_version)

    async def erase_if_async(self, key: str, if_version: Version) -> None:
        """See `storage.AsyncEraseIf`."""
        ignores = self._ignores("erase_if", key)
        await (self.erase_async(key) if ignores else super().erase_if_async(key, if_version))


def _made(store: object, faults: tuple[Fault, ...], seed: int | None) -> Faults:
    return Faults(store, *faults, seed=seed)


def _bytes(blob: Blob) -> bytes:
    return b"".join(blob.data)


def _ranges(call: Call, value: bytes) -> tuple[memoryview, ...] | None:
    """The ranges of a call; None where they do not fit."""
    try:
        spans = [part.resolve(len(value)) for part in call.ranges or ()]
    except ValueError:
        return None
    return tuple(memoryview(value)[start:stop] for start, stop in spans)


def _mixed(call: Call, reply: Blob, past: Blob | None) -> Blob:
    """The bytes before the last write with the version of now."""
    if past is None:
        return reply
    data = (memoryview(_bytes(past)),) if call.ranges is None else _ranges(call, _bytes(past))
    return reply if data is None else Blob(data, reply.version, past.size)


def _truncated(call: Call, reply: Blob, past: Blob | None) -> Blob:
    value = _bytes(reply)
    return reply._replace(data=(memoryview(value[: len(value) // 2]),)) if value else reply


def _short(call: Call, reply: Blob, past: Blob | None) -> Blob:
    if not reply.data or not reply.data[-1].nbytes:
        return reply
    return reply._replace(data=(*reply.data[:-1], reply.data[-1][:-1]))


def _long(call: Call, reply: Blob, past: Blob | None) -> Blob:
    return reply._replace(data=(*reply.data[:-1], memoryview(bytes(reply.data[-1]) + b"more"))) if reply.data else reply


_SPOIL: dict[str, Callable[[Call, Blob, Blob | None], Blob]] = {
    "truncated": _truncated,
    "short ranges": _short,
    "long ranges": _long,
    "mixed read": _mixed,
}


def _lagging(prefix: str, reply: object, before: dict[str, Blob | None]) -> object:
    """A listing in which each key is there or not as it was before its last write."""
    here = {key: past is not None for key, past in before.items() if key.startswith(prefix)}
    if isinstance(reply, list):
        wrong: object = _as_before(reply, here)
    elif isinstance(reply, tuple):
        keys, prefixes = reply
        tails = {key: key[len(prefix) :].partition("/") for key in here}
        direct = {key: there for key, there in here.items() if not tails[key][1]}
        more = {f"{prefix}{tails[key][0]}/" for key, there in here.items() if there and tails[key][1]}
        wrong = _as_before(keys, direct), sorted({*prefixes, *more})
    else:
        return reply
    return reply if wrong == reply else wrong


def _as_before(keys: Sequence[str], here: dict[str, bool]) -> list[str]:
    return sorted({key for key in keys if here.get(key, True)} | {key for key, there in here.items() if there})
