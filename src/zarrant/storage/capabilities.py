"""What a store turns out to have: one value, computed from its methods.

In: any object. Out: `Capabilities`, in which each optional ability is a field, blocking calls and coroutines apart. This is the
only place that looks whether a store has a method, so an ability that is not a field here is never used. A flag
cannot be wrong: it is the presence of the method. For a wrapper (`wrapper.py`) it is that of the method in the wrapper's
class and in the store inside.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, NamedTuple

from zarrant.storage.protocols import Store


class Calls(NamedTuple):
    """What a store can do by one kind of calls: blocking calls, or coroutines (whose names end with `_async`)."""

    get: bool = False
    get_within: bool = False
    put: bool = False
    put_if: bool = False
    splice: bool = False
    erase: bool = False
    erase_if: bool = False
    list: bool = False
    lock: bool = False

    def __and__(self, other: Calls) -> Calls:
        return Calls(*(mine and theirs for mine, theirs in zip(self, other, strict=True)))


NO_CALLS = Calls()


@dataclass(frozen=True)
class Capabilities:
    """What a store can do. `sync_calls` and `async_calls` are apart; what follows exists as blocking calls only."""

    sync_calls: Calls = NO_CALLS
    async_calls: Calls = NO_CALLS
    sync: bool = False
    is_unchanged: bool = False
    version: bool = False
    is_locked_by_caller: bool = False
    batch: bool = False
    get_all: bool = False
    get_into: bool = False
    get_decoded: bool = False
    put_all: bool = False
    only_while: bool = False
    erase_link: bool = False
    list_stored: bool = False
    with_options: bool = False
    coalesces: bool = False
    """It reads ranges together that are near each other, and takes a gap for that."""
    durability: str | None = None
    """None: the store has no say in it."""
    lock_timeout: float | None = None
    direct_io: bool = False
    file_reuse: bool = False
    strided_parts: bool = False
    """It takes views of arrays that are not contiguous as parts of new objects."""
    puts_first: bool = False
    """It stores the first object of a directory with one call, where it can be done."""
    updates_boxes: bool = False
    """It replaces boxes of stored chunks with one call, where it can be done."""
    one_process: bool = False
    """Only this process can reach the store, so that a queue of its threads is as good as a lock."""
    requests_in_flight: int = 0
    """Requests that run at once, unless a handle says `concurrency`: many where they are waited for; 0: as many as CPUs."""
    probe: str | None = None
    """How its compare-and-swap is tried before it is relied on (`stores.probe`): "auto", "full", "off". None: it is believed."""

    @property
    def get(self) -> bool:
        """Whether objects can be read, by calls of either kind. So are the properties below."""
        return self.sync_calls.get or self.async_calls.get

    @property
    def get_within(self) -> bool:
        """Whether objects that are too large are not read."""
        return self.sync_calls.get_within or self.async_calls.get_within

    @property
    def put(self) -> bool:
        """Whether objects can be stored."""
        return self.sync_calls.put or self.async_calls.put

    @property
    def put_if(self) -> bool:
        """Whether the store can compare and swap."""
        return self.sync_calls.put_if or self.async_calls.put_if

    @property
    def erase_if(self) -> bool:
        """Whether the store can erase on condition of a version."""
        return self.sync_calls.erase_if or self.async_calls.erase_if

    @property
    def splice(self) -> bool:
        """Whether the store can copy ranges of the object that is replaced."""
        return self.sync_calls.splice or self.async_calls.splice

    @property
    def erase(self) -> bool:
        """Whether objects can be erased."""
        return self.sync_calls.erase or self.async_calls.erase

    @property
    def list(self) -> bool:
        """Whether keys can be listed."""
        return self.sync_calls.list or self.async_calls.list

    @property
    def lock(self) -> bool:
        """Whether keys can be locked."""
        return self.sync_calls.lock or self.async_calls.lock

    @cached_property
    def awaits(self) -> bool:
        """Whether an event loop awaits coroutines of the store: where these can do all that blocking calls can do.

        Else blocking calls are made in threads. Nothing gets lost by that choice: a store that has a lock only as a blocking
        call, or that only this process can reach (a queue serves threads), is used by threads.
        """
        if self.async_calls.get or self.async_calls.put:
            needed = self.sync_calls._replace(splice=False, get_within=False)
            lost = any(have and not more for have, more in zip(needed, self.async_calls, strict=True))
            queued = self.one_process and needed.get and not self.async_calls.lock
            return not lost and not queued
        return False

    @property
    def blocks(self) -> bool:
        """Whether threads can use the store: it has blocking calls."""
        return self.sync_calls.get or self.sync_calls.put

    @property
    def loop_calls(self) -> Calls:
        """What can be done from an event loop."""
        return self.async_calls if self.awaits else self.sync_calls

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what a store can do."""
        return tuple(name for name in (*Calls._fields, *_OTHERS, *_OF_CLASS) if getattr(self, name, False))

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    def __hash__(self) -> int:  # of every lookup of a wrapper's capabilities
        return self._hash


NOTHING = Capabilities()


class Described:
    """A store whose capabilities are not those of its class alone: a wrapper.

    `own` names blocking calls that the class makes possible whatever is inside, `lacks` what it does not pass on, though it has
    the method, `passes_strided_parts` that it does nothing with parts but to pass them on.
    """

    own: ClassVar[tuple[str, ...]] = ()
    lacks: ClassVar[tuple[str, ...]] = ()
    passes_strided_parts: ClassVar[bool] = False

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What it can do."""


_CALLS: dict[str, tuple[str, ...]] = {
    "get": ("get", "get_ranges"),
    "get_within": ("get_within",),
    "put": ("put",),
    "put_if": ("put_if",),
    "splice": ("splice",),
    "erase": ("erase", "erase_prefix"),
    "erase_if": ("erase_if",),
    "list": ("list_prefix", "list_dir"),
    "lock": ("lock",),
}
_OTHERS: dict[str, tuple[str, ...]] = {
    "sync": ("sync",),
    "is_unchanged": ("is_unchanged",),
    "version": ("version",),
    "is_locked_by_caller": ("is_locked_by_caller",),
    "erase_link": ("erase_link",),
}
# These are asked of the class. What forwards every method that it does not know (`__getattr__`) would hand out another store
# than itself, or pass by its own `put`.
_OF_CLASS: dict[str, tuple[str, ...]] = {
    "batch": ("write_batch", "commit"),
    "get_all": ("get_all",),
    "get_into": ("get_into",),
    "get_decoded": ("get_decoded",),
    "put_all": ("put_all",),
    "updates_boxes": ("update_box",),
    "puts_first": ("put_first",),
    "list_stored": ("list_stored",),
    "only_while": ("only_while",),
    "with_options": ("with_options",),
    "coalesces": ("with_coalesce_gap",),
}
_METHODS = frozenset(
    name + ending for table in (_CALLS, _OTHERS) for names in table.values() for name in names for ending in ("", "_async")
)


def capabilities(store: object) -> Capabilities:
    """The capabilities of a store.

    >>> from zarrant.stores.memory import MemoryStore
    >>> capabilities(MemoryStore()).sync_calls.put_if, capabilities(MemoryStore()).async_calls.put_if
    (True, False)
    """
    if isinstance(store, Described):
        return store.capabilities
    kind: Any = type(store)
    # A class is looked at once; objects that have methods of their own, each time.
    own = "__getattr__" in _names_of(kind) or not _METHODS.isdisjoint(getattr(store, "__dict__", ()))
    return _with_values(
        _look(store, kind) if own else kind,
        getattr(store, "durability", None),
        getattr(store, "lock_timeout", None),
        bool(getattr(store, "direct_io", False)),
        bool(getattr(store, "file_reuse", False)),
        bool(getattr(store, "strided_parts", False)),
        bool(getattr(store, "updates_boxes", False)),
        bool(getattr(store, "one_process", False)),
        getattr(store, "probe", None),
        int(getattr(store, "requests_in_flight", 0)),
    )


def as_store(store: object) -> Store:
    """Any object as drivers and wrappers see it: what it has of all this is said by `capabilities`."""
    return store  # type: ignore[return-value] # not `cast`: drivers ask this at every lock and condition


def url_of(store: object) -> str:
    """The address of a store, else its `repr`."""
    return str(getattr(store, "url", None) or repr(store))


def guard_of(store: object) -> str:
    """What keeps other writers out of the store, in words."""
    return str(getattr(store, "guard", "unknown"))


def is_local(store: object) -> bool:
    """Whether calls of the store take microseconds: memory, and files of this machine. Other stores are waited for."""
    return bool(getattr(store, "is_local", False))


def access_of(store: object) -> str:
    """How the store reads and writes files, in words."""
    return str(getattr(store, "access", "unknown"))


@lru_cache(maxsize=256)
def _names_of(kind: Hashable) -> frozenset[str]:
    return frozenset(dir(kind))


@lru_cache(maxsize=256)
def _of_class(kind: Hashable) -> Capabilities:
    return _look(kind, kind)


def _look(owner: object, kind: object) -> Capabilities:
    def has(names: tuple[str, ...], ending: str = "", where: object = owner) -> bool:
        return all(callable(getattr(where, name + ending, None)) for name in names)

    found: dict[str, Any] = {name: has(names) for name, names in _OTHERS.items()}
    found.update((name, has(names, where=kind)) for name, names in _OF_CLASS.items())
    for name, ending in (("sync_calls", ""), ("async_calls", "_async")):
        found[name] = Calls(*(has(names, ending) for names in _CALLS.values()))
    return Capabilities(**found)


@lru_cache(maxsize=1024)
def _with_values(
    found: Hashable,
    durability: str | None,
    lock_timeout: float | None,
    direct_io: bool,
    file_reuse: bool,
    strided_parts: bool,
    updates_boxes: bool,
    one_process: bool,
    probe: str | None,
    requests_in_flight: int,
) -> Capabilities:
    return replace(
        found if isinstance(found, Capabilities) else _of_class(found),
        durability=durability,
        lock_timeout=lock_timeout,
        direct_io=direct_io,
        file_reuse=file_reuse,
        strided_parts=strided_parts,
        updates_boxes=updates_boxes,
        one_process=one_process,
        probe=probe,
        requests_in_flight=requests_in_flight,
    )


def combined(kind: Any, inside: Capabilities) -> Capabilities:
    """What a wrapper can do: what the store inside can do and the class passes on, and what the class does by itself."""
    return _combined(kind, kind.own, kind.lacks, kind.passes_strided_parts, inside)


@lru_cache(maxsize=1024)
def _combined(
    kind: Hashable, own: tuple[str, ...], lacks: tuple[str, ...], passes_strided_parts: bool, inside: Capabilities
) -> Capabilities:
    mine = _of_class(kind)
    found: dict[str, Any] = {name: getattr(mine, name) and getattr(inside, name) for name in (*_OTHERS, *_OF_CLASS)}
    for name in ("sync_calls", "async_calls"):
        found[name] = getattr(mine, name) & getattr(inside, name)
    found["sync_calls"] = found["sync_calls"]._replace(**dict.fromkeys(own, True))
    found["strided_parts"] = inside.strided_parts and passes_strided_parts
    for name in lacks:
        found[name] = NO_CALLS if name == "async_calls" else False
    return replace(inside, **found)
