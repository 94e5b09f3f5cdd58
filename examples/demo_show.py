"""How the demo looks in a terminal: a line or two for each step, progress on standard error.

In come its events; out goes whether every value of ours was right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Event:
    """A step that starts (`facts` None), or its facts; `ok` is False where a value of ours is wrong."""

    step: str
    facts: dict[str, Any] | None = None
    ok: bool = True


def plain(shape: Iterable[int]) -> str:
    """A shape with ×."""
    return " × ".join(map(str, shape))


def human(nbytes: float) -> str:
    """A number of bytes, with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} GiB"


def show(events: Iterable[Event], keep: bool) -> bool:
    """Each step of the demo as it ends; True where every value of ours was right."""
    correct = True
    # One console for both: two would write over each other's lines.
    with (out if out.is_terminal else err).status("starting") as status:
        for event in events:
            if event.facts is None:
                status.update(PROGRESS[event.step])
                continue
            correct &= event.ok
            mark = "[green]✓[/green]" if event.ok else "[red]✗[/red]"
            mark = "[yellow]![/yellow]" if event.step == "same_job_in_zarr" and event.facts["wrong"] else mark
            for i, line in enumerate(LINES[event.step](event.facts)):
                out.print(f"{mark if i == 0 else ' '} {line}", soft_wrap=True)
            for failure in event.facts.get("failures", ())[:4]:
                out.print(f"  [red]{escape(failure)}[/red]", soft_wrap=True)
            if event.step == "data" and keep:
                out.print(f"  kept in {escape(event.facts['path'])}", soft_wrap=True)
    out.print("[green]Zarrant lost nothing: every element is right.[/green]" if correct else "[red]Some elements are wrong.[/red]")
    return correct


def _speed(facts: Mapping[str, Any]) -> str:
    return f"[bold]{facts['megabytes_per_second']:,.0f} MB/s[/bold] ({facts['seconds']:.1f} s)"


def _stored(facts: Mapping[str, Any]) -> str:
    return _files(facts["files"], facts["stored_bytes"], facts["ratio"])


def _files(count: int, nbytes: int, ratio: float | None) -> str:
    compressed = "" if ratio is None else f", compressed {ratio:.2f} : 1"
    return f"{count:,} {'file' if count == 1 else 'files'}, {human(nbytes)}{compressed}"


def _wrong(facts: Mapping[str, Any]) -> str:
    return f"{facts['values']:,} values compared, [bold]{facts['wrong']:,} wrong[/bold]"


def _data_lines(facts: Mapping[str, Any]) -> list[str]:
    size = f"{plain(facts['shape'])} {facts['dtype']}, {human(facts['bytes'])}"
    return [
        f"[bold]Data[/bold]: {facts['file']} of nibabel, tiled to {size}",
        f"shards {plain(facts['shards'])}, chunks {plain(facts['chunks'])}, zstd",
    ]


def _write_lines(facts: Mapping[str, Any]) -> list[str]:
    who = f"{facts['processes']} processes at the same time, {facts['slabs']} slabs that fit no chunk"
    return [
        f"[bold]Written[/bold] by {who}: {_speed(facts)}",
        f"{facts['shared_objects']} of {facts['stored_objects']} stored objects were written by two or more processes",
    ]


def _peer_lines(facts: Mapping[str, Any]) -> list[str]:
    share = 100 * facts["wrong"] / facts["values"]
    first = f"[bold]The same job through zarr-python {facts['version']}[/bold]: {_speed(facts)}"
    return [first, f"{facts['values']:,} values compared, [bold]{facts['wrong']:,} lost[/bold] ({share:.2f} %)"]


def _verify_lines(facts: Mapping[str, Any]) -> list[str]:
    return [f"[bold]Verified[/bold] against NumPy: {_wrong(facts)}, read at {_speed(facts)}", f"stored: {_stored(facts)}"]


def _read_lines(facts: Mapping[str, Any]) -> list[str]:
    return [f"[bold]Read by zarr-python[/bold]: {_wrong(facts)}, at {_speed(facts)}"]


def _image_lines(facts: Mapping[str, Any]) -> list[str]:
    what = f"{facts['name']} of scikit-image, {plain(facts['shape'])}, in uneven bands"
    return [f"[bold]Image[/bold]: {what}: {_wrong(facts)}", f"stored: {_stored(facts)}"]


def _picture_lines(facts: Mapping[str, Any]) -> list[str]:
    return [f"[bold]Chunk map[/bold]: {escape(facts['path'])}"]


PROGRESS = {
    "data": "",
    "write": "processes are starting, and write",
    "verify": "comparing every element with NumPy",
    "read_by_zarr": "zarr-python is reading",
    "image": "writing an image",
    "same_job_in_zarr": "the same job through zarr-python",
    "picture": "drawing",
}
LINES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "data": _data_lines,
    "write": _write_lines,
    "verify": _verify_lines,
    "read_by_zarr": _read_lines,
    "image": _image_lines,
    "same_job_in_zarr": _peer_lines,
    "picture": _picture_lines,
}
