from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import zarrant
from zarrant.config import Config, ConfigOptions, Defaults
from zarrant.errors import FrozenAttributeError, OptionError


def test_defaults_and_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Defaults({}).config == Config()
    defaults = Defaults({"ZARRANT_CONCURRENCY": "4", "ZARRANT_MEMORY_LIMIT": "2 GiB", "HOME": "x"})
    assert defaults.config == Config(concurrency=4, memory_limit=2 << 30)
    assert defaults.sources["concurrency"] == (4, "ZARRANT_CONCURRENCY")
    assert defaults.sources["locking"] == ("auto", "default")
    assert "ZARRANT_MEMORY_LIMIT" in repr(defaults)
    monkeypatch.setenv("ZARRANT_MISSING_CHUNKS", "error")
    assert zarrant.config.config.missing_chunks == "error"
    assert zarrant.create_array({}, shape=(2,), dtype="int8").config.missing_chunks == "error"
    assert zarrant.create_array({}, shape=(2,), dtype="int8", config={"missing_chunks": "fill"}).config.missing_chunks == "fill"


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("concurrency", "auto", "auto"), ("concurrency", "3", 3), ("concurrency", 8, 8),
        ("memory_limit", "1.5 KiB", 1536), ("memory_limit", "10MB", 10**7),
        ("memory_limit", "9007199254740993", 9007199254740993),
        ("memory_limit", 1, 1), ("memory_limit", "7", 7),
        ("memory_limit", "auto", "auto"),
        ("write_empty_chunks", "yes", True), ("write_empty_chunks", "0", False), ("validate_checksums", False, False),
        ("dead_limit", "0.25", 0.25), ("lock_timeout", 5, 5.0), ("subchunk_order", "morton", "morton"), ("locking", "none", "none"),
        ("cache", "2 MiB", 2 << 20), ("cache", 0, 0), ("coalesce_gap", "auto", "auto"), ("coalesce_gap", "0", 0),
    ],
)  # fmt: skip
def test_values(name: str, given: object, value: object) -> None:
    assert getattr(Config().with_options(**{name: given}), name) == value


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("concurrency", 0), ("concurrency", "0"), ("concurrency", ""), ("concurrency", "²"), ("concurrency", None),
        ("memory_limit", 0), ("memory_limit", "0"), ("memory_limit", "0 MiB"), ("memory_limit", "0.5"), ("memory_limit", False),
        ("memory_limit", "9" * 400 + " GiB"), ("cache", "9" * 400), ("lock_timeout", True), ("lock_timeout", 10**400),
        ("concurrency", -1), ("concurrency", 1.5), ("concurrency", True), ("concurrency", "many"), ("memory_limit", "2 apples"),
        ("memory_limit", -5), ("memory_limit", None), ("write_empty_chunks", 1), ("write_empty_chunks", "maybe"),
        ("dead_limit", 1.1),
        ("dead_limit", float("nan")), ("lock_timeout", -1), ("lock_timeout", "soon"), ("locking", "file"), ("subchunk_order", "F"),
        ("shard_updates", ""), ("missing_chunks", None), ("concurency", 1), ("_x", 1),
        ("cache", "auto"), ("cache", -1), ("coalesce_gap", "near"), ("coalesce_gap", -1),
    ],
)  # fmt: skip
def test_wrong_values(name: str, given: object) -> None:
    with pytest.raises(OptionError) as caught:
        Config().with_options(**{name: given})
    assert caught.value.field == name
    assert caught.value.expected


def test_a_wrong_variable_is_an_error_not_a_default() -> None:
    with pytest.raises(OptionError) as caught:
        Defaults({"ZARRANT_DEAD_LIMIT": "half"}).config  # noqa: B018
    assert caught.value.field == "dead_limit"


@pytest.mark.parametrize("name", ["CONCURRENCY", "MEMORY_LIMIT"])
def test_no_operation_and_no_memory_cannot_be_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ZARRANT_{name}", "0")
    with pytest.raises(OptionError, match="at least 1"):
        zarrant.create_array({}, shape=(2,), dtype="int8")


@pytest.mark.parametrize("name", ["concurrency", "memory_limit", "coalesce_gap"])
def test_what_is_chosen_for_the_user_is_shown_as_auto(name: str) -> None:
    assert Defaults({}).sources[name] == ("auto", "default")
    assert next(line for line in repr(Defaults({})).splitlines() if line.startswith(name)).split() == [name, "'auto'", "default"]
    a = zarrant.create_array({}, shape=(2,), dtype="int8", config={name: "auto"})
    assert getattr(a.config, name) == "auto" and f"{name}='auto'" in repr(a.config)
    assert a.with_config(**{name: getattr(a.config, name)}).config == a.config
    a[...] = 3
    assert a[...].tolist() == [3, 3]


def test_configs_are_values() -> None:
    config = Config(concurrency=2)
    assert config == Config(concurrency=2)
    assert hash(config) == hash(Config(concurrency=2))
    assert config.with_options(dead_limit=1).concurrency == 2
    with pytest.raises(AttributeError):
        config.concurrency = 3  # type: ignore[misc]


def test_the_options_by_name_are_those_of_a_config() -> None:
    assert list(ConfigOptions.__annotations__) == [field.name for field in fields(Config)]


def test_a_misspelt_variable_is_an_error() -> None:
    with pytest.raises(OptionError, match="Did you mean 'ZARRANT_CONCURRENCY'"):
        Defaults({"ZARRANT_CONCURENCY": "4"}).config  # noqa: B018
    with pytest.raises(OptionError, match="ZARRANT_NOTHING"):
        Defaults({"ZARRANT_NOTHING": "4"}).sources  # noqa: B018
    assert Defaults({"ZARRANT_KERNELS": "auto", "ZARRANT_SOAK": "1", "ZARRAN": "x"}).config == Config()


def test_the_environment_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Defaults().config.concurrency == "auto"
    monkeypatch.setenv("ZARRANT_CONCURRENCY", "7")
    assert Defaults().config.concurrency == 7
    monkeypatch.setenv("ZARRANT_NOTHING", "7")
    with pytest.raises(OptionError, match="ZARRANT_NOTHING"):
        Defaults().config  # noqa: B018
    for name in ("ZARRANT_CONCURRENCY", "ZARRANT_NOTHING"):
        monkeypatch.delenv(name)
    assert Defaults().config == Config()


def test_defaults_are_not_set_by_attributes() -> None:
    for name, words in [("concurrency", "with_config"), ("concurency", "Did you mean 'concurrency'"), ("config", "defaults")]:
        with pytest.raises(FrozenAttributeError, match=words):
            setattr(zarrant.config, name, 3)
        with pytest.raises(AttributeError):
            setattr(zarrant.config, name, 3)


def test_hints_for_misspelt_options() -> None:
    with pytest.raises(OptionError, match="Did you mean 'concurrency'"):
        Config().with_options(concurency=1)  # type: ignore[call-arg]


PAGE = (Path(__file__).parents[1] / "docs" / "options.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))


def test_the_page_of_options_lists_exactly_what_there_is() -> None:
    assert list(SECTIONS) == [field.name for field in fields(Config)]


@pytest.mark.parametrize("field", fields(Config), ids=lambda field: field.name)
def test_the_page_of_options_tells_default_values_and_variable(field: Any) -> None:
    row = next(line for line in SECTIONS[field.name].splitlines() if "ZARRANT_" in line)
    default, values, _, variable = (part.strip() for part in row.strip("|").split(" | "))
    assert variable == f"`ZARRANT_{field.name.upper()}`"
    assert Config().with_options(**{field.name: ast.literal_eval(default.strip("`"))}) == Config()
    kind = get_type_hints(ConfigOptions)[field.name]
    if get_origin(kind) is Literal:
        assert re.findall(r'`"(\w+)"`', values) == list(get_args(kind))
