"""File calls that fail on purpose, for tests.

In: a function that gets each call before it is made. Out: what the function decides: it returns (the call is made),
raises an OSError (the call failed), or ends the process (it was killed there).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zarrant.stores.local.syscalls import NO_CHILDREN, Syscalls


def _step(name: str) -> Callable[..., Any]:
    real = getattr(Syscalls, name)

    def call(self: FaultySyscalls, *args: Any) -> Any:
        if name == "close":  # also where it fails the descriptor is closed
            real(self, *args)
        self.calls.append(name)
        self.fault(len(self.calls) - 1, name)
        return None if name == "close" else real(self, *args)

    return call


class FaultySyscalls(Syscalls):
    """Lists its calls, and before each calls `fault(index, name)`, which may raise an OSError or end the process.

    >>> from zarrant.stores.local.store import FilesystemStore
    >>> syscalls = FaultySyscalls()
    >>> FilesystemStore("there", syscalls=syscalls).get("a")
    >>> syscalls.calls
    ['stat_target', 'open']
    """

    STEPS = (
        *("open", "close", "read", "write", "copy", "truncate", "sync", "rename", "unlink", "mkdir", "rmdir"),
        *(
            "stat",
            "stat_target",
            "fstat",
            "set_mtime",
            "scan",
            "lock",
            "unlock",
            "link",
            "get_xattr",
            "set_xattr",
            "take_write_lease",
            "chmod",
        ),
        "set_direct",
    )

    def __init__(self, fault: Callable[[int, str], None] = lambda index, name: None) -> None:
        self.calls: list[str] = []
        self.fault = fault

    def children(self) -> tuple[tuple[float, ...], bool]:
        """None: what a test counts does not depend on the processes that another one left."""
        return NO_CHILDREN


for _name in FaultySyscalls.STEPS:
    setattr(FaultySyscalls, _name, _step(_name))
