"""What arrays and groups share: where they are in a store, options, and the way to run operations.

A handle is checked against what its store can do before an operation starts: a CapabilityError names what is missing, and
nothing has been written.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, Unpack, cast
from uuid import uuid4

from zarrant.codecs.protocols import CodecOptions
from zarrant.config import Config, ConfigOptions, given
from zarrant.errors import CapabilityError, FrozenAttributeError, ZarrantError, ZarrantWarning, did_you_mean
from zarrant.metadata.node import dump
from zarrant.metadata.v3 import NodeMetadata
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.consolidated import in_step
from zarrant.ops.consolidation_context import ConsolidationContext
from zarrant.requests import Op
from zarrant.run.blocking import ExecutionContext, perform
from zarrant.run.decoded_cache import StoreCache, shared_cache
from zarrant.run.pool import available_cpus, available_memory, shared_pool
from zarrant.storage import Calls, Capabilities, Store, Version, as_store, capabilities, guard_of, is_local, url_of
from zarrant.stores.wrappers.read_only import ReadOnly

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from zarrant.ops.explain import Environment
    from zarrant.run.asynchronous import Together

T = TypeVar("T")
H = TypeVar("H")
S = TypeVar("S", covariant=True)  # noqa: PLC0105 - one letter, as it stands in every signature

READ = ("get",)
WRITE = ("put", "erase")
UPDATE = ("get", "put", "erase")
LIST = ("get", "list")
MEMBERS = ("get", "members")
"""Also: the nodes of a group are known, as the store lists or as there are consolidated metadata."""

USUAL = ()
"""What operations run in that list nothing, whatever they need."""

GROW = (*UPDATE, "exclusive")
"""Also: two writers can be kept apart, though what they write is not there yet (`NodeContext.require`)."""

STORE_OPTIONS = ("locking", "lock_timeout", "durability", "direct_io", "file_reuse")
"""Options of a handle that its store must know."""


LISTING_THREADS = 10
"""Documents of a group's members in flight where `concurrency` is "auto": the latency of the store decides, not the work
(zarr-python has 10 as well)."""

LOCAL_READ_THREADS = 2
"""Reads of an event loop that run at once where the store is not waited for, and `concurrency` is "auto". They take turns with
the loop: with 64 tasks it answers after 12 ms (95th percentile; TensorStore: 8), with 4 threads after 30, with 32 after 90, and no
more is read."""

BYTES_PER_READ_THREAD = 1 << 20
"""Large chunks let more threads go, up to one for each CPU: a read takes turns with the loop for 0.3 ms, and a MiB is decoded
beside it in 0.5 ms or more. So the loop can run for most of the time."""

FETCH_BYTES = 64 << 20
"""Decoded bytes of a shard that are asked for at once where the store is waited for: each request costs 15 to 100 ms, in which a
connection moves some MB."""

AWAITED_REQUESTS = 32
"""Requests of one operation in flight where an event loop awaits them, and `concurrency` is "auto": as many as of an object
store. With 5 ms a request 640 chunks are read in 0.15 s; with one for each of 2 CPUs in 1.9 s."""

DIRECT_REQUESTS = 4
"""Chunks in flight with direct I/O, and `concurrency` is "auto": with two the disk has nothing to do while both are gathered or
scattered. On 2 CPUs, of a plain loop (median of three runs): a read 0.87 with two, 0.95 with four; a write 0.73, 0.82."""

BATCH_PUT_BYTES = 32 << 20
"""Bytes of chunks whose data a store syncs together: more would keep their locks for longer than other writers like."""


_made_options: dict[tuple[int, int, bool, bool], tuple[Config, Capabilities, OpOptions]] = {}
MAX_MADE_OPTIONS = 64

_found_able: dict[tuple[tuple[str, ...], int, int, bool], tuple[Config, Capabilities]] = {}
"""Needs that stores of these capabilities were found to meet, under these options, and guarded or not; none that are tried out."""


@dataclass(frozen=True)
class NodeContext:
    """A node's store and path, the options in force, and whether partial writes are guarded."""

    store: Store
    path: str
    config: Config
    guarded: bool = True
    without_copies: dict[str, Version] = field(default_factory=dict, compare=False, repr=False)
    """See `ops.consolidation_context.ConsolidationContext`; shared by all handles that come from one another."""
    executor: ThreadPoolExecutor | None = None
    """Threads for coroutines under a lock, see `run.blocking.ExecutionContext`."""
    in_lock: bool = field(default=False, compare=False, repr=False)
    """Whether the caller has locked something: its operations do not wait for memory, as who has that may wait for the lock."""
    top: str = field(default="", compare=False, repr=False)
    """The part of the path that was part of the store's address: see `ops.node.create_node`."""
    read_bytes: int = field(default=0, compare=False, repr=False)
    """Bytes that are decoded together: those of a chunk, of a subchunk where there are shards."""
    able: Capabilities = field(init=False, compare=False, repr=False)
    """What the store can do."""
    _contexts: dict[tuple[tuple[str, ...], bool], ExecutionContext] = field(init=False, compare=False, repr=False)
    """Where operations run that have these needs, of the blocking driver or not: the store was found to have what they need."""

    def __post_init__(self) -> None:
        self.__dict__["able"], self.__dict__["_contexts"] = capabilities(self.store), {}

    def __getstate__(self) -> dict[str, object]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}  # the rest may not be pickled

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @cached_property
    def options(self) -> OpOptions:
        """The options as operations know them; they are made once for handles that have the same of all that they come from."""
        config, able = self.config, self.able
        if config.cache:
            return self._made_options()
        place = id(config), id(able), self.guarded, self.in_lock
        found = _made_options.get(place)
        if found is None:
            if len(_made_options) >= MAX_MADE_OPTIONS:
                _made_options.clear()
            found = _made_options[place] = (
                config,
                able,
                self._made_options(),
            )  # as long as they are kept, nothing else has their ids
        return found[2]

    def _made_options(self) -> OpOptions:
        config = self.config
        codec = CodecOptions(
            write_empty_chunks=config.write_empty_chunks,
            validate_checksums=config.validate_checksums,
            subchunk_order=config.subchunk_order,
            shard_updates=config.shard_updates,
            dead_limit=config.dead_limit,
            fetch_bytes=FETCH_BYTES if self.able.requests_in_flight else 0,
            strided_parts=self.able.strided_parts,
            reads_into=self.able.get_into,
            reads_decoded=self.able.get_decoded and not self.able.direct_io,
        )
        return OpOptions(
            codec,
            config.missing_chunks,
            self.guarded,
            self.able.get,
            self._batch_put_bytes,
            self._checks_conditions,
            self._checks_conditions and not self.in_lock,
            self.able.updates_boxes,
            self._turns,
            self.able.erase_if,
            config.lock_timeout,
            self.cache,
            0 if self.able.coalesces else given(self.config.coalesce_gap) or 0,
        )

    @cached_property
    def cache(self) -> StoreCache | None:
        """Where decoded chunks are kept; the context keeps it alive."""
        return shared_cache(self.config.cache, self.store) if self.config.cache else None

    @property
    def _turns(self) -> bool:
        """See `OpOptions`."""
        queued = self.able.one_process and self.able.blocks
        return self.guarded and self.able.get and self.able.put_if and not self.able.lock and not queued

    @property
    def _checks_conditions(self) -> bool:
        """See `OpOptions`."""
        return self.able.get and self.able.only_while and self.able.is_unchanged

    @property
    def _batch_put_bytes(self) -> int:
        """See `OpOptions`."""
        syncs = self.able.durability == "fsync" and self.able.put_all
        return min(BATCH_PUT_BYTES, self._memory // 8) if syncs else 0

    @property
    def _memory(self) -> int:
        return given(self.config.memory_limit) or available_memory() // 4

    def environment_of_plans(self) -> Environment:
        """What a plan of reads and writes (`ops.explain`) must know of the store and of the options."""
        from zarrant.ops.explain import Environment  # planning is rare, and takes some ms to import

        return Environment(self.url, self.guard, self.able.splice, self.threads, self._memory)

    @property
    def url(self) -> str:
        """The address of the node."""
        root = url_of(self.store)
        return f"{root.rstrip('/')}/{self.path}" if self.path else root

    @property
    def guard(self) -> str:
        """What guards writes, in words."""
        if not self.guarded:
            return "none (synchronizer=None): concurrent updates can be lost; LostUpdateError where that is seen"
        return guard_of(self.store)

    def with_config(self, **options: Unpack[ConfigOptions]) -> NodeContext:
        """The same node under other options."""
        config, store = self.config.with_options(**options), self.store
        changed = {name: getattr(config, name) for name in STORE_OPTIONS if name in options}
        if changed and self.able.with_options:
            store = as_store(store.with_options(**changed))
        return replace(self, config=config, store=store)

    @property
    def consolidation(self) -> ConsolidationContext:
        """What is known about consolidated metadata above the node."""
        exclusive = self.guarded and (self.able.lock or self.able.one_process)
        return ConsolidationContext(exclusive, self.able.put_if, self.without_copies)

    def in_step(self, op: Op[T]) -> Op[T]:
        """An operation that changes metadata at or below this path, so that consolidated metadata above are kept in step."""
        return in_step(op, self.consolidation) if self.able.get else op

    @property
    def threads(self) -> int:
        """How many chunks an operation has in flight together."""
        waits = DIRECT_REQUESTS if self.able.direct_io else self.able.requests_in_flight
        return given(self.config.concurrency) or max(available_cpus(), waits)

    def _execution_context(self, needs: tuple[str, ...]) -> ExecutionContext:
        listing = needs in (LIST, MEMBERS) and given(self.config.concurrency) is None
        if not listing and (usual := self._contexts.get((USUAL, True))) is not None:
            return usual
        threads = max(LISTING_THREADS, self.threads) if listing else self.threads
        pool = shared_pool(threads, self._memory)
        store, gap = self.store, given(self.config.coalesce_gap)
        if self.able.coalesces and gap is not None:
            store = as_store(store.with_coalesce_gap(gap))
        made = ExecutionContext(store, pool, threads, executor=self.executor, can=self.able, waits=not self.in_lock)
        return self._contexts.setdefault((USUAL, True), made) if not listing else made

    def run(self, op: Op[T], needs: tuple[str, ...]) -> T:
        """Perform an operation in this thread."""
        context = self._contexts.get((needs, True))
        if context is None:
            place = needs, id(self.config), id(self.able), self.guarded
            if place not in _found_able:
                self.require_blocking()
                self.require(needs, self.able.sync_calls)
                if self._must_probe(needs):  # safety: tried out
                    from zarrant.stores.probe import require_swaps

                    require_swaps(self.store, self.path)
                elif len(_found_able) < MAX_MADE_OPTIONS:
                    _found_able[place] = self.config, self.able  # as long as they are kept, nothing else has their ids
            context = self._contexts[needs, True] = self._execution_context(needs)
        try:
            return perform(op, context)
        except ZarrantError as error:
            raise error.annotate(store=self.url) from error.__cause__

    async def run_async(self, op: Op[T], needs: tuple[str, ...], *, brief: bool = False, together: Together | None = None) -> T:
        """Perform an operation without blocking the event loop; with `brief` it begins with what takes microseconds."""
        from zarrant.run.asynchronous import perform_async  # imports asyncio, which programs without an event loop do not need

        context = self._contexts.get((needs, False))
        if context is None:
            self.require(needs, self.able.loop_calls)
            if self._must_probe(needs):  # safety: tried out in a loop
                await self._require_swaps_async()
            context = self._execution_context(needs)
            if needs == READ and is_local(self.store):
                context = context._replace(loop_threads=given(self.config.concurrency) or self._local_read_threads)
            if self.able.awaits:
                context = context._replace(concurrency=given(self.config.concurrency) or max(context.concurrency, AWAITED_REQUESTS))
            self._contexts[needs, False] = context
        try:
            return await perform_async(op, context, brief, together)
        except ZarrantError as error:
            raise error.annotate(store=self.url) from error.__cause__

    @property
    def _local_read_threads(self) -> int:
        """See `LOCAL_READ_THREADS`."""
        return max(LOCAL_READ_THREADS, min(available_cpus(), self.read_bytes // BYTES_PER_READ_THREAD))

    def _must_probe(self, needs: tuple[str, ...]) -> bool:
        """Whether this may be the first write that relies on a compare-and-swap which is not believed without a trial."""
        able = self.able
        tried = able.probe in ("auto", "full") and not able.one_process  # None for files: nothing more is looked at
        return tried and "put" in needs and self.guarded and able.put_if and not able.lock

    async def _require_swaps_async(self) -> None:
        from zarrant.run.asynchronous import in_thread
        from zarrant.stores.probe import require_swaps, require_swaps_async

        if self.able.awaits:
            await require_swaps_async(self.store, self.path)
        else:
            await in_thread(lambda: require_swaps(self.store, self.path), executor=self.executor)

    def sync(self) -> None:
        """Everything this process wrote to the store so far is on disk when this returns.

        It does not matter which handle wrote it, or by which path: through a symbolic link, a group above, an array below, a
        mount of the same directory at another path, a handle that is gone, a directory that was moved since. The metadata of the
        groups above is included. So is what child processes wrote, of this one and of theirs, that work still, have ended or were
        killed: then all of the file system is synced (`syncfs`), which waits for what other programs wrote too; where it has no
        `syncfs` (network mounts, FUSE, macOS), every file below the store's directory. The same is done when more than 65,536
        objects were written since the last sync. What is written while this runs may be left for the next call.

        Not included: what is written by processes that this one did not start (workers of a cluster call `sync` themselves),
        and what child processes wrote through a symbolic link inside of the store, or on another mount inside of it.

        What was on disk stays, old or new in each object, when it is updated without another sync. A new object that was
        not synced may be there and broken after a loss of power.

        StoreError where that is not certain: what was written since the last `sync` that returned must be written again.
        CapabilityError for a store that cannot do that, as memory.
        """
        self._syncing()()

    async def sync_async(self) -> None:
        """`sync` without blocking the event loop."""
        from zarrant.run.asynchronous import in_thread

        await in_thread(self._syncing(), executor=self.executor)

    def _syncing(self) -> Callable[[], None]:
        if not self.able.sync:
            raise CapabilityError("the store does not know what is on disk", store=self.url, expected="sync")
        return self.store.sync

    def require_blocking(self) -> None:
        """CapabilityError for a store that has coroutines only."""
        if not self.able.blocks and self.able.async_calls != Calls():
            raise CapabilityError("this store is async only", store=repr(self.store), hint="Use AsyncArray or AsyncGroup")

    def require(self, needs: tuple[str, ...], calls: Calls) -> None:
        """CapabilityError unless the store has what is needed, by the calls that are made."""
        able = self.able
        missing = [name for name in needs if name not in ("exclusive", "members") and not getattr(calls, name)]
        if "get" in needs and "put" in needs and self.guarded and not (calls.lock or calls.put_if):
            missing.append("lock or put_if")
        if "put" in needs and self.config.durability == "fsync" and able.durability != "fsync":
            missing.append('durability="fsync"')
        if self.config.direct_io and not able.direct_io:
            missing.append("direct_io=True")
        if missing and isinstance(self.store, ReadOnly):
            what, hint = "the node or its store was opened for reading only", 'To write, open it with mode="r+"'
            raise CapabilityError(what, store=repr(self.store), expected=missing, got='mode="r"', hint=hint)
        if missing:
            got = [name for name, has in calls._asdict().items() if has]
            what, how = "the store cannot do what this needs", getattr(self.store, "how_to_write", None)
            raise CapabilityError(what, store=repr(self.store), expected=missing, got=got, hint=how)
        if "exclusive" in needs:
            self._require_locks(calls)

    def _require_locks(self, calls: Calls) -> None:
        """CapabilityError where two writers that change the shape cannot be kept apart.

        They lock the array's metadata. Between the threads of one process a queue is such a lock; on a store that several
        processes share, and that can only compare and swap, they take turns (`ops/turns.py`).
        """
        queued = self.able.one_process and calls is self.able.sync_calls
        if self.guarded and not calls.lock and not queued and not self._turns:
            raise CapabilityError(
                "appending and resizing need a lock that all writers take, which this store does not have by these calls",
                store=repr(self.store),
                expected="lock" if calls is self.able.sync_calls else "lock_async",
                hint="With synchronizer=None it is up to you that only one process at a time changes the shape",
            )


_HINTS = {
    "attrs": "Change attributes with update_attributes({...})",
    "attributes": "Change attributes with update_attributes({...})",
    "shape": "Change the shape with resize(...) or append(...)",
    "config": "Take another handle with with_config(...)",
    **{option.name: f"Take another handle with with_config({option.name}=...)" for option in fields(Config)},
}


def not_settable(kind: type, name: str) -> FrozenAttributeError:
    """The error for a handle's attribute that cannot be set, with what can be done instead."""
    known = [word for word in (*dir(kind), *_HINTS) if not word.startswith("_")]
    if name in _HINTS:
        hint: str | None = _HINTS[name]
    else:
        hint = "It belongs to what is stored" if name in known else did_you_mean(name, known)
    return FrozenAttributeError(f"an attribute of {kind.__name__} that cannot be set", field=name, hint=hint)


def warn_caller(message: str) -> None:
    """Warn of the line outside of the library that called it."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("zarrant."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ZarrantWarning, stacklevel=level)


class PendingNode(NamedTuple):
    """A node about to be opened or made: the operation that gives its metadata, and what that needs of the store."""

    context: NodeContext
    op: Op[NodeMetadata]
    needs: tuple[str, ...]
    bound: tuple[BoundArray, ...] = ()
    """The array that is made, where its metadata are bound already: handles of arrays take it after the metadata."""

    def where_none_is(self) -> Op[NodeMetadata]:
        """The operation, for one that opens what is there and needs no more than to read: asked for where nothing is there.

        CapabilityError for a store that cannot be written to, in the words that making a node has for it.
        """
        able = self.context.able
        self.context.require(WRITE, able.loop_calls if able.loop_calls.put else able.sync_calls)
        return self.op

    def run(self, handle: Callable[..., H]) -> H:
        """Perform it and open the handle."""
        return handle(self.context, self.context.run(self.op, self.needs), *self.bound)

    async def run_async(self, handle: Callable[..., H]) -> H:
        """Perform it and open the handle, without blocking the event loop."""
        return handle(self.context, await self.context.run_async(self.op, self.needs), *self.bound)


class Frozen:
    """A handle whose public attributes cannot be set: that would change nothing that is stored."""

    def __setattr__(self, name: str, value: object) -> None:
        """FrozenAttributeError for public names."""
        if not name.startswith("_"):
            raise not_settable(type(self), name)
        object.__setattr__(self, name, value)


class Located(Generic[S]):
    """An open node: where it is."""

    _context: NodeContext
    _cache: StoreCache | None

    def __init__(self, context: NodeContext) -> None:
        # Not by `__setattr__`, which lets these names through: it takes half a microsecond each time.
        self.__dict__["_context"] = context
        self.__dict__["_cache"] = context.cache  # of a group too: it outlives the handles of its members

    @property
    def store(self) -> S:
        """The store that holds the node."""
        return cast("S", self._context.store)

    @property
    def path(self) -> str:
        """The path of the node in its store, "" for the root."""
        return self._context.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """The address of the node."""
        return self._context.url


def dask_token(node: Located[Any], metadata: NodeMetadata) -> tuple[Any, ...]:
    """What Dask names the blocks of a node by, and the tasks that get it.

    Dask does not do a task again whose name has a result. Elements are changed by anybody, at any time, and no metadata say so:
    a node that may be written to has another name each time that it is asked, so that a graph never takes what was read before
    it was made. One that was opened for reading only says that its elements stay: its name is the same in every process, made of
    where it is, the options, and the metadata with their version (an array that replaced another has other names).
    """
    context, kind = node._context, type(node).__name__
    if not isinstance(context.store, ReadOnly):
        return kind, uuid4().hex
    store = context.url if context.able.one_process else context.store  # one in memory is known by its address in this process
    return kind, store, context.path, repr(context.config), dump(metadata), repr(getattr(metadata, "version", None))


def context_of(node: Located[Any]) -> NodeContext:
    """Where an open node is, and the options in force: for modules of this package, users see the public attributes."""
    return node._context
