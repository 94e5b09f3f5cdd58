"""What the tests of each peer share: the modules in this folder, and the cases.

A test that takes `case` runs for every case of the sample; one that takes `dtype` and `layout` (marked soak) for every pair.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cases import AXES
from sampling import sample


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", sample(), ids=str)
    elif {"dtype", "layout"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("dtype", "layout"), list(itertools.product(AXES["dtype"], AXES["layout"])))
