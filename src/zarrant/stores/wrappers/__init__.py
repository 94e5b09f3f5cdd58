"""Stores around a store: views that can do less, and adapters that watch, cache, slow down or break what passes.

In: any store. Out: a store that can do what the store inside can do, and never more. They can be put around each other in any
order. Each is imported when it is asked for, since most programs need none or one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarrant.lazy import lazy_names

if TYPE_CHECKING:
    from zarrant.stores.wrappers.cache import Cache
    from zarrant.stores.wrappers.each_call import Call
    from zarrant.stores.wrappers.faults import Fault, Faults
    from zarrant.stores.wrappers.latency import Latency
    from zarrant.stores.wrappers.logging import Logging
    from zarrant.stores.wrappers.metrics import Metrics, MetricsSnapshot
    from zarrant.stores.wrappers.prefix import Prefix
    from zarrant.stores.wrappers.read_only import ReadOnly
    from zarrant.stores.wrappers.recording import READS, WRITES, Recording
    from zarrant.stores.wrappers.write_only import WriteOnly

_MODULES = {
    "READS": "recording",
    "WRITES": "recording",
    "Cache": "cache",
    "Call": "each_call",
    "Fault": "faults",
    "Faults": "faults",
    "Latency": "latency",
    "Logging": "logging",
    "Metrics": "metrics",
    "MetricsSnapshot": "metrics",
    "Prefix": "prefix",
    "ReadOnly": "read_only",
    "Recording": "recording",
    "WriteOnly": "write_only",
}

__all__ = [
    "READS",
    "WRITES",
    "Cache",
    "Call",
    "Fault",
    "Faults",
    "Latency",
    "Logging",
    "Metrics",
    "MetricsSnapshot",
    "Prefix",
    "ReadOnly",
    "Recording",
    "WriteOnly",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
