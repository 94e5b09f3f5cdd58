"""What to do about what a check found: for each kind of finding a sentence, and where there is one the command.

In: the findings and the address. Out: sentences, the most urgent first, each once.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Found(Protocol):
    """A finding, as far as this module asks."""

    @property
    def kind(self) -> str:
        """See `check.Finding`."""
        ...

    @property
    def severity(self) -> str:
        """See `check.SEVERITIES`."""
        ...

    @property
    def repairable(self) -> bool:
        """Whether `repair` has a safe way to mend it."""
        ...


class Step(NamedTuple):
    """One thing to do; `command` as it is typed, None where a person has to decide."""

    what: str
    command: str | None


_BY_KIND = {
    "unfinished": "A copy to here was broken off. The command that began it goes on where it stopped; or delete the target.",
    "metadata": "Metadata are broken. Restore zarr.json (or .zarray) from a copy; chunks are not lost.",
    "unsupported": "Read these arrays with a library that has the codec or type, or register it: see docs, Extending.",
    "index": "The index of a shard is broken, and with it all of the shard. Restore the object, or erase it to read it as fill.",
    "chunk": "Chunks cannot be decoded. Restore these objects, write them again, or erase them to read them as fill.",
    "unreadable": "Objects could not be read: look at permissions, the disk or the service, and check again.",
    "stranger": "Keys that are not of this array do no harm. Look what put them there before they are deleted.",
}
_SAME = {"size": "chunk", "entry": "index", "overlap": "index", "subchunk": "chunk"}
_REPAIRED = {
    "subchunk": "Damaged subchunks can be dropped, so that they read as fill and the rest of the shard stays",
    "lock": "Files of killed writers can be removed",
    "temp file": "Files of killed writers can be removed",
}


def next_steps(findings: Sequence[Found], address: str, deep: bool) -> list[Step]:
    """What to do.

    >>> from types import SimpleNamespace as Finding
    >>> next_steps([Finding(kind="dead bytes", severity="note", repairable=False)], "a.zarr", deep=True)
    [Step(what='Shards have bytes without use: free them', command='zarrant compact a.zarr')]
    >>> next_steps([], "a.zarr", deep=True)
    []
    """
    place = shlex.quote(address)
    steps: list[Step] = []
    kinds = {finding.kind for finding in findings if not finding.repairable}
    for kind, what in _BY_KIND.items():
        if kinds & {kind, *(name for name, same in _SAME.items() if same == kind)}:
            steps.append(Step(what, None))
    if "consolidated" in kinds:
        steps.append(Step("Copies of metadata are not in step: make them anew", f"zarrant consolidate {place}"))
    mended = {finding.kind for finding in findings if finding.repairable}
    flags = " --deep" * deep
    for what in dict.fromkeys(_REPAIRED.get(kind, "Some of it can be repaired") for kind in sorted(mended - {"orphan"})):
        steps.append(Step(f"{what}; add --yes when you have read what would be done", f"zarrant check {place}{flags} --repair"))
    if "orphan" in mended:
        what = "Chunks outside of the grid can be erased; add --yes when you have read what would be done"
        steps.append(Step(what, f"zarrant check {place}{flags} --repair --orphans"))
    if "dead bytes" in kinds:
        steps.append(Step("Shards have bytes without use: free them", f"zarrant compact {place}"))
    if any(finding.severity == "error" for finding in findings) and not deep:
        steps.append(Step("Other subchunks may be damaged too: decode them all", f"zarrant check {place} --deep"))
    return steps
