"""Names resolve to what is registered, lazily; unknown names say what is known and where the name may be found."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from zarrant import registry
from zarrant.errors import MetadataError, OptionError, UnknownExtensionError
from zarrant.registry import Registry


def test_resolves_lazily_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Registry("codecs", {"colour": "colorsys:rgb_to_hsv"})
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert "colour" in table
    assert "colorsys" not in sys.modules
    found = table.resolve("colour")
    assert found.__name__ == "rgb_to_hsv"
    assert table.resolve("colour") is found


def test_aliases_and_patterns() -> None:
    table = Registry("codecs", {"a": "json:dumps"}, aliases={"b": "a"}, patterns=[("p.*", r"p\.\w+", "json:loads")])
    assert table.canonical("b") == "a"
    assert table.canonical("c") == "c"
    assert table.resolve("b") is table.resolve("a")
    assert table.resolve("p.x").__name__ == "loads"
    assert "p.x" in table
    assert "p." not in table
    assert table.names() == ["a", "b", "p.*"]
    assert 5 not in table


def test_register_replaces_and_unregister_forgets() -> None:
    table = Registry("codecs", {"a": "json:dumps"})
    assert table.resolve("a").__name__ == "dumps"
    target = object()
    table.register("a", target, aliases=["alias"])
    assert table.resolve("a") is target
    assert table.resolve("alias") is target
    table.register("alias", "json:loads")
    assert table.resolve("alias").__name__ == "loads"
    table.unregister("a")
    table.unregister("a")
    assert "a" not in table
    assert "alias" in table


@pytest.mark.parametrize(("name", "target"), [("", "json:dumps"), ("a", "json"), ("a", "json:"), ("a", "os.system('x'):y")])
def test_register_refuses(name: str, target: str) -> None:
    with pytest.raises(OptionError) as caught:
        Registry("codecs").register(name, target)
    assert caught.value.field == "codecs"


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        registry.codecs.resolve("zstt", "$.codecs[1]")
    error = caught.value
    assert isinstance(error, MetadataError)
    assert (error.field, error.got, error.path) == ("codecs", "zstt", "$.codecs[1]")
    assert error.expected == registry.codecs.names()
    assert error.hint is not None and "'zstd'" in error.hint
    assert "zstt" in str(error) and "$.codecs[1]" in str(error)


@pytest.mark.parametrize(
    ("table", "name", "word"),
    [
        (registry.codecs, "zfp", "zfpy"),
        (registry.codecs, "pcodec", "pcodec"),
        (registry.codecs, "lz4", "numcodecs.lz4"),
        (registry.codecs, "delta", "zarr-python has it as 'numcodecs.delta'"),
        (registry.codecs, "zfp", "not supported yet"),
        (registry.codecs, "qqqqqq", "zarrant.codecs"),
        (registry.codecs, "imagecodecs_jpeg2k", "imagecodecs"),
        (registry.data_types, "numpy.datetime64", "int64"),
        (registry.data_types, "string", "not supported"),
        (registry.data_types, "uint17", "'uint16'"),
        (registry.chunk_grids, "rectilinear", "equal chunks"),
        (registry.key_encodings, "V2", "'v2'"),
    ],
)
def test_hints(table: Registry, name: str, word: str) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        table.resolve(name)
    assert word in str(caught.value.hint)


def test_a_broken_target_is_named() -> None:
    table = Registry("codecs", {"a": "zarrant_no_such_module:x", "b": "json:no_such_attribute"})
    for name, cause in (("a", ImportError), ("b", AttributeError)):
        with pytest.raises(UnknownExtensionError, match="cannot be imported") as caught:
            table.resolve(name)
        assert isinstance(caught.value.__cause__, cause)
        assert caught.value.got == name


def test_entry_points_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def entry_points(*, group: str, name: str) -> list[metadata.EntryPoint]:
        asked.append((group, name))
        return [metadata.EntryPoint(name, "json:dumps", group)] if name == "mine" else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    table = Registry("codecs", {"gzip": "json:loads"})
    assert table.resolve("mine").__name__ == "dumps"
    assert table.resolve("gzip").__name__ == "loads"
    assert asked == [("zarrant.codecs", "mine")]
    with pytest.raises(UnknownExtensionError):
        table.resolve("other")


def test_names_never_import_by_themselves() -> None:
    for name in ("os:system", "os", "json.dumps", "numcodecs.registry:x", "numcodecs.a.b", "../x", "r16\n"):
        for table in (registry.codecs, registry.data_types, registry.chunk_grids, registry.key_encodings):
            with pytest.raises(UnknownExtensionError):
                table.resolve(name)


def test_the_tables_point_at_what_exists() -> None:
    """Every target imports; aliases and patterns too."""
    samples = {"numcodecs.*": "numcodecs.zlib", "r<bits>": "r24"}
    for table in (registry.codecs, registry.data_types, registry.chunk_grids, registry.key_encodings):
        assert table.names()
        for name in table.names():
            assert callable(table.resolve(samples.get(name, name))), name
    assert registry.codecs.resolve("endian") is registry.codecs.resolve("bytes")
