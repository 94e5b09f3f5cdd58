"""One line for each call of a store, by Python's `logging`.

In: any store, and the name of a logger. Out: `Logging`, which does the same and writes method, key, ranges, bytes, seconds and
outcome of each call. Never data, addresses, options or the text of an error: there may be secrets in them.
"""

from __future__ import annotations

import logging
from typing import Any

from zarrant.errors import MetadataChangedError, VersionChangedError
from zarrant.stores.wrappers.each_call import Call, Observed, received

READS = ("get", "get_ranges")


class Logging(Observed):
    """Logs each call when it has ended.

    Args:
        store: Any store.
        logger: The logger, by its name.
        level: The level of calls that did what they should; also of those that found another version than they asked for.
        failed: The level of calls that ended by another error.

    Each record has the facts as `record.call`, a dict.

    >>> import logging, sys
    >>> from zarrant.stores.memory import MemoryStore
    >>> logger = logging.getLogger("example")
    >>> logger.addHandler(logging.StreamHandler(sys.stdout))
    >>> logger.setLevel("DEBUG")
    >>> store = Logging(MemoryStore(), "example")
    >>> version = store.put("a", [b"abc"])  # doctest: +ELLIPSIS
    put 'a' sent 3 B, 0.0... s: ok
    """

    def __init__(
        self, store: object, logger: str = "zarrant.store", level: int = logging.DEBUG, failed: int = logging.WARNING
    ) -> None:
        super().__init__(store)
        self.logger, self.level, self.failed = logger, level, failed
        self._logger = logging.getLogger(logger)

    @property
    def _settings(self) -> tuple[Any, ...]:
        return self.logger, self.level, self.failed

    def _ended(self, call: Call, seconds: float, reply: object, error: BaseException | None) -> None:
        level = self.level if error is None or isinstance(error, VersionChangedError | MetadataChangedError) else self.failed
        if not self._logger.isEnabledFor(level):
            return
        absent = reply is None and call.method in READS
        outcome = type(error).__name__ if error is not None else "absent" if absent else "ok"
        ranges = [(part.start, part.length) for part in call.ranges or ()]
        facts = {
            "method": call.method, "key": call.key, "ranges": ranges, "sent": call.nbytes, "received": received(reply),
            "seconds": seconds, "outcome": outcome,
        }  # fmt: skip
        shown = [f"ranges {ranges}"] if ranges else []
        shown += [f"sent {call.nbytes} B"] if call.nbytes else []
        shown += [f"received {facts['received']} B"] if facts["received"] else []
        text = " ".join([call.method, *([repr(call.key)] if call.key else []), ", ".join([*shown, f"{seconds:.6f} s"])])
        self._logger.log(level, "%s: %s", text, outcome, extra={"call": facts})
