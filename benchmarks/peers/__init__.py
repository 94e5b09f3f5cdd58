"""Peers: one adapter for each library, found by name; a library that is not installed is named with the reason.

In comes the name of a peer and the settings equal for all; out goes a `Peer`, or a `PeerMissing` that says what is absent.
A library is imported only when its peer is asked for.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.peers.base import Peer, Settings

ADAPTERS = {
    "zarrant": "benchmarks.peers.ours:Zarrant",
    "tensorstore": "benchmarks.peers.tensorstore:TensorStore",
    "zarrs-python": "benchmarks.peers.zarrs_python:ZarrsPython",
    "zarrista": "benchmarks.peers.zarrista:Zarrista",
    "zarr-python": "benchmarks.peers.zarr_python:ZarrPython",
    "zarr-python-fused": "benchmarks.peers.zarr_python_fused:ZarrPythonFused",
}
"""In the order of columns; the first is the one that ratios speak of."""
OURS = next(iter(ADAPTERS))
COLUMNS = {**ADAPTERS, "acquire-zarr": "benchmarks.peers.acquire:Acquire"}
"""Also those that only stream frames."""


class PeerMissing(Exception):
    """A library cannot be imported here."""


def make_peer(name: str, settings: Settings) -> Peer:
    """The peer of that name, or of an adapter elsewhere ("module:Class"); PeerMissing where its library is not installed."""
    module, _, adapter = COLUMNS.get(name, name).partition(":")
    try:
        peer: Peer = getattr(import_module(module), adapter)(settings)
    except ImportError as error:
        raise PeerMissing(f"{name} is not installed: {error}") from error
    return peer


def find_peers(names: list[str], settings: Settings) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that are installed, and why the others are missing."""
    found: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            found[name] = make_peer(name, settings)
        except PeerMissing as reason:
            missing[name] = str(reason)
    return found, missing
