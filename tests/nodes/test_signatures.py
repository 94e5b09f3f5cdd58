from __future__ import annotations

import inspect
from typing import Any, Literal, get_args

import pytest

import zarrant
from zarrant.config import ConfigOptions
from zarrant.nodes.create import ArrayOptions, GroupLayout
from zarrant.nodes.open import Where
from zarrant.nodes.signatures import LeftOut, spelled_out

ARRAY, GROUP, WHERE = (kind.__annotations__.keys() for kind in (ArrayOptions, GroupLayout, Where))


@pytest.mark.parametrize(
    ("function", "keywords"),
    [
        (zarrant.create_array, WHERE | ARRAY), (zarrant.create_array_async, WHERE | ARRAY),
        (zarrant.open_array, WHERE | ARRAY), (zarrant.open_array_async, WHERE | ARRAY),
        (zarrant.create_group, WHERE | GROUP), (zarrant.create_group_async, WHERE | GROUP),
        (zarrant.open_group, WHERE | GROUP), (zarrant.open_group_async, WHERE | GROUP),
        (zarrant.open, WHERE), (zarrant.open_async, WHERE),
        (zarrant.Group.create_array, ARRAY), (zarrant.AsyncGroup.create_array, ARRAY),
        (zarrant.Group.require_array, ARRAY), (zarrant.AsyncGroup.require_array, ARRAY),
        (zarrant.Group.create_group, GROUP), (zarrant.AsyncGroup.create_group, GROUP),
        (zarrant.Group.require_group, GROUP), (zarrant.AsyncGroup.require_group, GROUP),
        (zarrant.Array.with_config, ConfigOptions.__annotations__.keys()),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)  # fmt: skip
def test_signatures_name_every_keyword(function: Any, keywords: Any) -> None:
    parameters = inspect.signature(function).parameters
    optional = {name for name, parameter in parameters.items() if isinstance(parameter.default, LeftOut)}
    assert optional == set(keywords)
    assert not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    assert not any(parameter.annotation is inspect.Parameter.empty for name, parameter in parameters.items() if name != "self")


def test_choices_are_spelled_out() -> None:
    parameters = inspect.signature(zarrant.create_array).parameters
    assert set(get_args(parameters["if_exists"].annotation)) == {"error", "match", "overwrite"}
    assert parameters["order"].annotation == Literal["C", "F"]
    assert inspect.signature(zarrant.open).parameters["mode"].annotation == "Mode"


def test_a_function_without_options_is_refused() -> None:
    with pytest.raises(TypeError, match="takes no options"):
        spelled_out(Where)(lambda store: None)


def test_what_is_left_out_prints_as_dots() -> None:
    assert "if_exists: Literal['error', 'match', 'overwrite'] = ..." in str(inspect.signature(zarrant.create_group))
