"""Every kind of finding has something to do about it."""

from __future__ import annotations

import doctest
import re

import pytest

import zarrant.tools.next_steps as module
from zarrant.tools import check
from zarrant.tools.check import Finding
from zarrant.tools.next_steps import next_steps

KINDS = re.findall(r'"([a-z ]+)"', (check.Finding.__doc__ or "").split("Kinds:")[1])


def test_examples_run() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("repairable", [False, True])
def test_each_kind_has_a_step(kind: str, repairable: bool) -> None:
    if not repairable and kind in ("orphan", "lock", "temp file"):
        return  # these are repairable, or a writer still needs them
    steps = next_steps([Finding(kind, "c/0", None, "", "error", repairable)], "a b.zarr", deep=True)
    assert len(steps) == 1
    assert steps[0].command is None or "'a b.zarr'" in steps[0].command


def test_steps_are_named_once_and_a_deep_check_is_advised() -> None:
    findings = [Finding("subchunk", f"c/{i}", None, "", "error", True) for i in range(3)]
    assert [step.command for step in next_steps(findings, "a", deep=False)] == [
        "zarrant check a --repair",
        "zarrant check a --deep",
    ]
    assert len(KINDS) >= 14
