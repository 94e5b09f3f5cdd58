"""What the workers of a Dask cluster need, so that programs that use zarr-python on them are safe too."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin as BasePlugin


class WorkerPlugin(BasePlugin):
    """Lets zarr-python read and write through Zarrant on every worker of a cluster, those that join later too.

    Arrays of Zarrant need no plugin: they are safe wherever they are opened. This one is for tasks that use zarr-python, by
    themselves or through xarray: `client.register_plugin(WorkerPlugin())`. Make it before arrays are opened: an array that is
    sent to workers brings the codec pipeline with it that it was opened with. So it switches Zarrant on where it is made, too.
    """

    name = "zarrant"
    idempotent = True

    def __init__(self) -> None:
        _enable()

    def setup(self, worker: Any) -> None:
        """Called by a worker when it starts, or when the plugin is registered."""
        _enable()


def _enable() -> None:
    import_module("zarrant.integrations.zarr_python").enable()
