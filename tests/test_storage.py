from __future__ import annotations

from types import SimpleNamespace

import pytest

from zarrant.storage import ByteRange, Calls, Capabilities, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import ReadOnly, WriteOnly


@pytest.mark.parametrize(
    ("wanted", "size", "expected"),
    [
        (ByteRange(0), 0, (0, 0)), (ByteRange(0, 0), 0, (0, 0)), (ByteRange(2, 3), 5, (2, 5)), (ByteRange(5), 5, (5, 5)),
        (ByteRange.suffix(2), 5, (3, 5)), (ByteRange(-4, 2), 5, (1, 3)), (ByteRange.suffix(5), 5, (0, 5)),
    ],
)  # fmt: skip
def test_ranges(wanted: ByteRange, size: int, expected: tuple[int, int]) -> None:
    assert wanted.resolve(size) == expected


@pytest.mark.parametrize(
    "wanted", [ByteRange(0, 6), ByteRange(6), ByteRange(5, 1), ByteRange(-6), ByteRange(-1, 2), ByteRange(3, -1)]
)
def test_ranges_outside(wanted: ByteRange) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        wanted.resolve(5)


BLOCKING = Calls(get=True, get_within=False, put=True, put_if=True, splice=True, erase=True, erase_if=True, list=True, lock=False)
MEMORY = Capabilities(BLOCKING, version=True, only_while=True, list_stored=True, one_process=True)


def test_capabilities_are_the_methods(tmp_path) -> None:
    memory = MemoryStore()
    assert capabilities(memory) == MEMORY
    assert capabilities(FilesystemStore(tmp_path, lock_timeout=3.0, durability="fsync")) == Capabilities(
        BLOCKING._replace(lock=True, get_within=True),
        **dict.fromkeys(
            (
                "sync",
                "is_unchanged",
                "version",
                "is_locked_by_caller",
                "batch",
                "get_all",
                "get_into",
                "get_decoded",
                "put_all",
                "puts_first",
                "list_stored",
                "only_while",
                "erase_link",
                "with_options",
            ),
            True,
        ),
        durability="fsync",
        lock_timeout=3.0,
    )
    reads = Calls(get=True, list=True)
    assert capabilities(ReadOnly(memory)) == Capabilities(reads, version=True, list_stored=True, one_process=True)
    assert capabilities(WriteOnly(memory)) == Capabilities(Calls(put=True, erase=True), one_process=True)
    assert capabilities(object()) == Capabilities()
    assert capabilities(memory).names == (
        "get",
        "put",
        "put_if",
        "splice",
        "erase",
        "erase_if",
        "list",
        "version",
        "list_stored",
        "only_while",
    )


class Half:
    async def get_async(self, key): ...
    async def get_ranges_async(self, key, ranges, if_version=None): ...
    def lock_async(self, keys): ...


def test_blocking_calls_and_coroutines_are_apart() -> None:
    half = capabilities(Half())
    assert half == Capabilities(async_calls=Calls(get=True, lock=True))
    assert (half.get, half.put, half.lock) == (True, False, True)
    assert (half.awaits, half.blocks, half.loop_calls) == (True, False, half.async_calls)
    assert not capabilities(MemoryStore()).awaits
    # The half without a method is no ability.
    assert not capabilities(SimpleNamespace(get=lambda key: None)).get
    assert not capabilities(SimpleNamespace(put=3)).put


class Dual(MemoryStore):
    one_process = False

    async def get_async(self, key): ...
    async def get_ranges_async(self, key, ranges, if_version=None): ...
    async def put_async(self, key, parts): ...
    async def put_if_async(self, key, parts, if_version): ...
    async def erase_async(self, key): ...
    async def erase_prefix_async(self, prefix): ...
    async def erase_if_async(self, key, if_version): ...
    async def list_prefix_async(self, prefix): ...
    async def list_dir_async(self, prefix): ...


def test_coroutines_are_awaited_where_they_can_do_as_much() -> None:
    dual = Dual()
    assert capabilities(dual).awaits
    assert capabilities(dual).blocks
    dual.lock = lambda keys: None  # only threads could lock
    assert not capabilities(dual).awaits
    assert capabilities(dual).loop_calls == capabilities(dual).sync_calls
    dual.lock_async = lambda keys: None
    assert capabilities(dual).awaits
    alone = Dual()
    alone.one_process = True  # a queue of threads guards it
    assert not capabilities(alone).awaits


def test_an_object_s_own_methods_count() -> None:
    store = MemoryStore()
    assert not capabilities(store).lock
    store.lock = lambda keys: None
    assert capabilities(store).lock
    assert not capabilities(MemoryStore()).lock


class Forwarding:
    """What users write around a store."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_what_hands_out_another_store_is_asked_of_the_class(tmp_path) -> None:
    files = FilesystemStore(tmp_path)
    can, found = capabilities(files), capabilities(Forwarding(files))
    assert found.sync_calls == can.sync_calls
    assert (found.sync, found.is_unchanged, found.durability, found.lock_timeout) == (True, True, "rename", 60.0)
    assert not (found.batch or found.put_all or found.only_while or found.with_options)
