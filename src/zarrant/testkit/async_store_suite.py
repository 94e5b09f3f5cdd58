"""What every store with coroutines promises: the tests of `StoreSuite`, by way of its `*_async` methods, and those of tasks.

In: a pytest fixture named `async_store`, an empty store. Out: a test for each promise; what the store has no method for is
skipped.

    class TestMyStore(AsyncStoreSuite):
        @pytest.fixture
        def async_store(self):
            return MyStore()

        @pytest.fixture
        def store(self, async_store):
            with blocking(async_store) as store:
                yield store
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zarrant.errors import VersionChangedError
from zarrant.storage import capabilities
from zarrant.storage.capabilities import Described
from zarrant.testkit.checks import check_equal, content, skip
from zarrant.testkit.store_suite import StoreSuite

CALLS = (
    *("get", "get_within", "get_ranges", "put", "put_if", "splice", "erase", "erase_if", "erase_prefix"),
    *("list_prefix", "list_dir"),
)
ABILITIES = {"get_ranges": "get", "erase_prefix": "erase", "list_prefix": "list", "list_dir": "list"}
"""The ability to which a call belongs, where it has another name."""
TIMEOUT_S = 120.0


class Blocking:
    """The coroutines of a store, and nothing else of it, as blocking calls; they run on the event loop of another thread."""

    def __init__(self, store: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.loop = store, loop
        self.url = store.url

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT_S)

    def __getattr__(self, name: str) -> Any:
        """The blocking form of `<name>_async`, if the store has that."""
        if name == "lock" and capabilities(self.store).async_calls.lock:
            return self._lock
        method = getattr(self.store, f"{name}_async", None) if name in CALLS else None
        if isinstance(self.store, Described) and not getattr(
            capabilities(self.store).async_calls, ABILITIES.get(name, name), False
        ):
            method = None  # a wrapper has methods that the store inside has not
        if method is None:
            raise AttributeError(name)
        return lambda *args: self.run(method(*args))

    @contextmanager
    def _lock(self, keys: Sequence[str]) -> Iterator[Blocking]:
        context = self.store.lock_async(keys)
        locked = self.run(context.__aenter__())
        try:
            yield Blocking(locked, self.loop)
        except BaseException as error:
            if not self.run(context.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self.run(context.__aexit__(None, None, None))


@contextmanager
def blocking(store: Any) -> Iterator[Blocking]:
    """The coroutines of a store as blocking calls, while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="testkit-loop", daemon=True)
    thread.start()
    try:
        yield Blocking(store, loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT_S)
        loop.close()


class AsyncStoreSuite(StoreSuite):
    """What every store with coroutines promises."""

    def test_tasks_lose_nothing(self, store: Blocking) -> None:
        """Tasks of one event loop, that count by compare-and-swap."""
        inside = store.store
        if not capabilities(inside).async_calls.put_if:
            skip("the store has no put_if_async")

        async def increment() -> None:
            for _ in range(20):
                while True:
                    blob = await inside.get_async("n")
                    count = int(content(blob) or b"0")
                    try:
                        await inside.put_if_async("n", [b"%d" % (count + 1)], None if blob is None else blob.version)
                    except VersionChangedError:
                        continue
                    break

        async def all_of_them() -> None:
            await asyncio.gather(*[increment() for _ in range(8)])

        store.run(all_of_them())
        check_equal(content(store.get("n")), b"160", "what 8 tasks counted, 20 times each")

    def test_tasks_see_whole_objects(self, store: Blocking) -> None:
        """Readers and a writer on one event loop."""
        inside = store.store

        async def write() -> None:
            for number in range(1, 60):
                await inside.put_async("a", [bytes([number])] * number)

        async def read() -> None:
            for _ in range(60):
                value = content(await inside.get_async("a")) or b""
                check_equal(value, bytes([len(value)]) * len(value), "an object read while it is replaced")

        async def all_of_them() -> None:
            await inside.put_async("a", [b"\1"])
            await asyncio.gather(write(), read(), read())

        store.run(all_of_them())
