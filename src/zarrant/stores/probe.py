"""Whether a service keeps to compare-and-swap: tried out before a write relies on it.

In: a store with `put_if` that says by its attribute `probe` that it must be tried: "auto" (the serial probe), "full" (the
concurrent one too); "off" and None: it is believed. Out: a `ProbeReport`, or CapabilityError before anything of the caller's is
written.

- The serial probe makes one request after the other on a key of its own: is an object created where one is, or replaced where it
  is of another version? It finds services that ignore conditions.
- The concurrent probe counts to 48 from 8 threads: each step is a read, plus 1, and a put on condition. There are services whose
  single requests are all right, where even every contest of puts has one winner, and which lose 40 % of these steps, since a
  read pairs the bytes of one version with the tag of the next.

What was found is kept for the process. The objects of a probe lie below `<path>/.zarrant-probe-<random>/` and are removed.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zarrant.errors import CapabilityError, StoreError, VersionChangedError
from zarrant.storage import Blob, ByteRange, Version, capabilities, url_of
from zarrant.storage.wrapper import Wrapper
from zarrant.stores.objects.calls import Call, Sleep, Steps, Together, perform, perform_async

PROBES = ("auto", "full", "off")

WRITERS, EACH = 8, 6
"""A service that loses 20 to 40 % of 48 increments is found by every run; a run takes 0.02 to 1.2 s on a local service."""
MAX_TRIES = 1000
"""Tries of one increment. With 8 writers 4 are normal."""
MAX_PAUSE_S = 0.02

CREATED = "an object is created on condition that there is none"
NOT_CREATED = "no object is created where there is one"
REPLACED = "an object is replaced on condition of its version"
NOT_REPLACED = "an object of another version is not replaced"
READ = "what was stored last is read, with its version"
NOT_READ = "parts of an object of another version are not read"
LISTED = "what was stored is listed"

NEEDED = (CREATED, NOT_CREATED, REPLACED, NOT_REPLACED, READ, NOT_READ)
"""What writers who share a store rely on. Listings may lag behind."""

HINT = (
    "Give a lock that all writers use (synchronizer=), or synchronizer=None where nobody else writes. "
    'Where you know better, probe="off" among the storage_options believes the service'
)


@dataclass(frozen=True)
class ProbeReport:
    """What a probe found: which `checks` hold, and how many of the concurrent `increments` were `lost` (None: not tried).

    >>> report = ProbeReport({"a put on a wrong version is refused": True}, increments=48, lost=19)
    >>> report.problem
    '19 of 48 increments by 8 writers were lost'
    """

    checks: dict[str, bool] = field(default_factory=dict)
    increments: int = 0
    lost: int | None = None

    @property
    def problem(self) -> str | None:
        """Why writers cannot share the store; None where nothing was found."""
        broken = next((name for name in NEEDED if self.checks.get(name) is False), None)
        if broken:
            return f"it does not hold that {broken}"
        return f"{self.lost} of {self.increments} increments by {WRITERS} writers were lost" if self.lost else None

    @property
    def words(self) -> str:
        """What was tried, in words."""
        tried = [f"{sum(self.checks.values())} of {len(self.checks)} serial checks hold"] if self.checks else []
        if self.lost is not None:
            tried.append(f"{self.lost} of {self.increments} concurrent increments lost")
        return ", ".join(tried) or "not tried"

    def to_json(self) -> dict[str, Any]:
        """As a dict that prints as JSON."""
        return {"checks": self.checks, "increments": self.increments, "lost": self.lost, "problem": self.problem}


_reports: dict[Hashable, ProbeReport] = {}
_probing = threading.Lock()


def require_swaps(store: object, path: str) -> None:
    """CapabilityError where the store does not keep to compare-and-swap: tried once in a process, by objects below `path`."""
    name = _name(store)
    if name not in _reports:
        with _probing:
            if name not in _reports:
                _reports[name] = perform(_needed(store, path))
    refuse(store, _reports[name])


async def require_swaps_async(store: object, path: str) -> None:
    """See `require_swaps`."""
    name = _name(store)
    if name not in _reports:
        _reports[name] = await perform_async(_needed(store, path))
    refuse(store, _reports[name])


def refuse(store: object, report: ProbeReport) -> None:
    """CapabilityError where writers cannot share the store."""
    if report.problem is not None:
        message = "several writers cannot share this store, since it does not keep to compare-and-swap"
        raise CapabilityError(message, store=url_of(store), expected="put_if", got=report.problem, hint=HINT)


def known(store: object) -> ProbeReport | None:
    """What was found in this process."""
    return _reports.get(_name(store))


def probe(store: object, path: str = "", concurrent: bool = True) -> ProbeReport:
    """Try everything, below a path, whatever was found before; StoreError where the probe's own objects cannot be stored.

    >>> from zarrant.stores.memory import MemoryStore
    >>> probe(MemoryStore()).words
    '7 of 7 serial checks hold, 0 of 48 concurrent increments lost'
    """
    report = perform(_probe(store, path, concurrent, reads=True))
    _reports[_name(store)] = report
    return report


def _name(store: object) -> Hashable:
    """What stands for a service: the store inside of all wrappers that do what it does, where stores of one place are equal."""
    while isinstance(store, Wrapper) and not store.misbehaves:
        store = store.store
    return store if isinstance(store, Hashable) else id(store)


def _needed(store: object, path: str) -> Steps[ProbeReport]:
    return _probe(store, path, concurrent=capabilities(store).probe == "full", reads=False)


def _probe(store: object, path: str, concurrent: bool, reads: bool) -> Steps[ProbeReport]:
    folder = f"{path}/" if path else ""
    folder += f".zarrant-probe-{secrets.token_hex(6)}/"
    keys = [f"{folder}{name}" for name in ("serial", "count")[: 1 + concurrent]]
    try:
        report = ProbeReport((yield from _serial(store, folder, keys[0], reads)))
        if concurrent and report.problem is None:
            report = yield from _concurrent(store, keys[1], report)
    except Exception:
        yield from _erased(store, keys)
        raise
    yield from _erased(store, keys)
    return report


def _erased(store: object, keys: Sequence[str]) -> Steps[None]:
    for key in keys:
        try:
            yield Call(store, "erase", (key,))
        except StoreError:
            pass  # a few bytes stay, which no reader looks at: no reason to refuse the write that was to come


def _serial(store: object, folder: str, key: str, reads: bool) -> Steps[dict[str, bool]]:
    """One request after the other, up to the first that is wrong: what follows would say nothing."""

    def put(value: bytes, version: Version) -> Call:
        return Call(store, "put_if", (key, [value], version))

    created, first = yield from _tried(put(b"1", None))
    if not created:
        return {CREATED: False}
    again, _ = yield from _tried(put(b"2", None))
    if again:
        return {CREATED: True, NOT_CREATED: False}
    passed = {CREATED: True, NOT_CREATED: True}
    passed[REPLACED], second = yield from _tried(put(b"3", first))
    if passed[REPLACED]:
        stale, _ = yield from _tried(put(b"4", first))
        passed[NOT_REPLACED] = not stale
    if reads and all(passed.values()):
        found: Blob | None = yield Call(store, "get", (key,))
        passed[READ] = found is not None and bytes(found.data[0]) == b"3" and found.version == second
        stale, _ = yield from _tried(Call(store, "get_ranges", (key, [ByteRange(0, 1)], first)))
        passed[NOT_READ] = not stale
        if capabilities(store).list:
            passed[LISTED] = key in (yield Call(store, "list_prefix", (folder,)))
    return passed


def _tried(call: Call) -> Steps[tuple[bool, Any]]:
    """Whether a call on condition succeeded, and with what."""
    try:
        return True, (yield call)
    except (VersionChangedError, CapabilityError):  # the condition does not hold, or the service takes none
        return False, None


def _concurrent(store: object, key: str, report: ProbeReport) -> Steps[ProbeReport]:
    yield Call(store, "put_if", (key, [b"0"], None))
    made: list[tuple[int, int]] = yield Together([_increments(store, key) for _ in range(WRITERS)])
    found: Blob | None = yield Call(store, "get", (key,))
    value = _number(found) or 0
    acknowledged, in_doubt = (sum(column) for column in zip(*made, strict=True))
    lost = max(0, acknowledged - value)  # safety: lost increments
    # More than were acknowledged: a writer got the reply that it lost, and had not: it writes again, so its change is made twice.
    lost = lost or max(0, value - acknowledged - in_doubt)
    return replace(report, increments=WRITERS * EACH, lost=lost)


def _increments(store: object, key: str) -> Steps[tuple[int, int]]:
    """How many of one writer's increments were acknowledged, and how many failed so that they may have been made."""
    acknowledged = in_doubt = tries = 0
    while acknowledged < EACH and tries < MAX_TRIES:
        tries += 1
        try:
            found: Blob | None = yield Call(store, "get", (key,))
            value = _number(found)
            if found is not None and value is not None:
                yield Call(store, "put_if", (key, [b"%d" % (value + 1)], found.version))
                acknowledged += 1
                continue
        except VersionChangedError:
            pass
        except StoreError as error:
            in_doubt += 1
            if not error.retryable:
                raise
        yield Sleep(random.uniform(0, MAX_PAUSE_S))
    return acknowledged, in_doubt


def _number(blob: Blob | None) -> int | None:
    """The value that is stored; None where there is none, or a torn one."""
    text = b"" if blob is None else bytes(blob.data[0])
    return int(text) if text.isdigit() else None
