"""A store that is far away: each request takes a while.

In: any store, and how far it is. Out: `Latency`, which does the same later: for tests of a program on a laptop that will use
an object store. Blocking calls sleep in their thread, coroutines on their event loop, so requests side by side overlap as on a
network.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from zarrant.errors import OptionError
from zarrant.stores.wrappers.each_call import Call, EachCall, received

T = TypeVar("T")


class Latency(EachCall):
    """Makes each request take longer.

    Args:
        store: Any store.
        seconds: Added to each request.
        bandwidth: Bytes per second of one request, either way; None: no limit.
        jitter: Up to so many seconds more, evenly distributed.
        seed: Of the random numbers. One thread sees the same delays in each run.

    Raises:
        OptionError: A negative number, or no bandwidth at all.

    >>> from zarrant.stores.memory import MemoryStore
    >>> store = Latency(MemoryStore(), seconds=0.001, bandwidth=100e6)
    >>> version = store.put("a", [b"abc"])
    """

    def __init__(
        self, store: object, seconds: float = 0.02, bandwidth: float | None = None, jitter: float = 0.0, seed: int | None = None
    ) -> None:
        super().__init__(store)
        for name, value in (("seconds", seconds), ("jitter", jitter)):
            if not value >= 0:
                raise OptionError("impossible delay", field=name, expected="0 or more", got=repr(value))
        if bandwidth is not None and not bandwidth > 0:
            raise OptionError("impossible bandwidth", field="bandwidth", expected="bytes per second, or None", got=repr(bandwidth))
        self.seconds, self.bandwidth, self.jitter, self.seed = seconds, bandwidth, jitter, seed
        self._dice = random.Random(seed)

    @property
    def is_local(self) -> bool:
        """No: an event loop has as many reads at once as of a store that is far away."""
        return False

    @property
    def _settings(self) -> tuple[Any, ...]:
        return self.seconds, self.bandwidth, self.jitter, self.seed

    def _before(self, call: Call) -> float:
        extra = self._dice.random() * self.jitter if self.jitter else 0.0
        return self.seconds + extra + self._transfer(call.nbytes)

    def _transfer(self, nbytes: int) -> float:
        return nbytes / self.bandwidth if self.bandwidth is not None else 0.0

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        time.sleep(self._before(call))
        reply = act()
        if after := self._transfer(received(reply)):
            time.sleep(after)
        return reply

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(self._before(call))
        reply = await act()
        if after := self._transfer(received(reply)):
            await asyncio.sleep(after)
        return reply
