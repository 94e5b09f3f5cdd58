"""Names resolve to what is registered, lazily; unknown names say what is known and where the name may be found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import extensions
from zarrant.dtypes.fixed import RawBits
from zarrant.errors import MetadataError, OptionError, UnknownExtensionError
from zarrant.extensions import Contract, Registry
from zarrant.geometry.grid import ChunkGrid
from zarrant.metadata.v3 import Named
from zarrant.stores.memory import MemoryStore

TABLES = (
    extensions.codecs,
    extensions.data_types,
    extensions.chunk_grids,
    extensions.chunk_key_encodings,
    extensions.stores,
)


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
        extensions.codecs.resolve("zstt", "$.codecs[1]")
    error = caught.value
    assert isinstance(error, MetadataError)
    assert (error.field, error.got, error.path) == ("codecs", "zstt", "$.codecs[1]")
    shown = [name for name in extensions.codecs.names() if not name.startswith("numcodecs.") or name == "numcodecs.*"]
    assert error.expected == shown
    assert error.hint is not None and "'zstd'" in error.hint
    assert "zstt" in str(error) and "$.codecs[1]" in str(error)


@pytest.mark.parametrize(
    ("table", "name", "word"),
    [
        (extensions.codecs, "zfpy", "numcodecs.zfpy"),
        (extensions.codecs, "pcodec", "numcodecs.pcodec"),
        (extensions.codecs, "lz4", "numcodecs.lz4"),
        (extensions.codecs, "delta", "Its name in Zarr V3 is 'numcodecs.delta'"),
        (extensions.codecs, "zarrs.vlen", "zarrs"),
        (extensions.codecs, "qqqqqq", "zarrant.codecs"),
        (extensions.codecs, "imagecodecs_jpeg2k", "imagecodecs"),
        (extensions.data_types, "strings", "'string'"),
        (extensions.data_types, "uint17", "'uint16'"),
        (extensions.chunk_grids, "rectangular", "rectilinear"),
        (extensions.chunk_key_encodings, "V2", "'v2'"),
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
        for table in TABLES:
            with pytest.raises(UnknownExtensionError):
                table.resolve(name)


def test_the_tables_point_at_what_exists() -> None:
    """Every target imports; aliases and patterns too."""
    samples = {"numcodecs.*": "numcodecs.zlib", "r<bits>": "r24"}
    for table in TABLES:
        assert table.names()
        for name in table.names():
            assert callable(table.resolve(samples.get(name, name))), name
            table.check(table.resolve(samples.get(name, name)))
    assert extensions.codecs.resolve("endian") is extensions.codecs.resolve("bytes")


# ── what is registered is checked


def test_what_lacks_a_method_is_refused_when_it_is_registered() -> None:
    for table in TABLES:
        with pytest.raises(OptionError) as caught:
            table.register("example.empty", type("Empty", (), {}))
        assert caught.value.field == table.kind
        assert all(name in str(caught.value) for name in (*table.contract.methods, *table.contract.members))
        assert "example.empty" not in table


def test_a_contract_is_kept_by_methods_and_declared_members() -> None:
    class Whole:
        kind = "a"
        size: int

        def encode(self) -> None: ...

    class Declared(Whole):
        kind: str  # type: ignore[assignment]

    table = Registry("codecs", contract=Contract(("encode",), ("size",), {"kind": ("a", "b")}))
    assert table.register("whole", Whole) is Whole
    table.register("declared", Declared)
    for wrong, words in [
        ({"size": 1, "kind": "a"}, "no encode"),
        ({"encode": 5, "size": 1, "kind": "a"}, "no encode"),
        ({"encode": len, "kind": "a"}, "no size"),
        ({"encode": len, "size": 1}, "no kind"),
        ({"encode": len, "size": 1, "kind": "c"}, "wrong kind"),
    ]:
        with pytest.raises(OptionError, match=words):
            table.register("wrong", type("Wrong", (), wrong))
    assert "wrong" not in table


def test_a_decorator_registers_and_gives_the_class_back() -> None:
    table = Registry("codecs", contract=Contract(("encode",)))

    @table.register("mine", aliases=["my"])
    class Mine:
        def encode(self) -> None: ...

    assert table.resolve("my") is table.resolve("mine") is Mine
    with pytest.raises(OptionError, match="Bare is not one of the codecs"):

        @table.register("bare")
        class Bare: ...


def test_what_an_entry_point_names_is_checked_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("mine", "json:JSONDecoder", "zarrant.codecs")
    monkeypatch.setattr(metadata, "entry_points", lambda *, group, name: [point])
    table = Registry("codecs", contract=Contract(("decode", "encode")))
    for _ in range(2):
        with pytest.raises(OptionError, match="JSONDecoder is not one of the codecs: it has no encode"):
            table.resolve("mine")


# ── registered extensions are used


class Tribit(RawBits):
    """Elements of three bytes."""

    @classmethod
    def from_json(cls, document: Named, path: str) -> Tribit:
        return cls("example.tribit", np.dtype("V3"), 1)

    @classmethod
    def from_numpy(cls, dtype: Any) -> None:
        return None


def test_a_registered_data_type_is_read_and_written() -> None:
    objects: dict[str, Any] = {}
    extensions.data_types.register("example.tribit", Tribit, aliases=["example.three"])
    try:
        for dtype in ("example.tribit", "example.three", Tribit("example.tribit", np.dtype("V3"), 1)):
            made = zarrant.create_array(objects, shape=(4,), dtype=dtype, chunks=(2,), fill_value=b"abc", overwrite=True)
            made[1:3] = np.array([b"xyz", b"uvw"], "V3")
            assert zarrant.open_array(objects).metadata.data_type.name == "example.tribit"
            assert zarrant.open_array(objects)[...].tobytes() == b"abcxyzuvwabc"
    finally:
        extensions.data_types.unregister("example.tribit")
    with pytest.raises(UnknownExtensionError, match=r"example\.tribit"):
        zarrant.open_array(objects)


def test_a_registered_chunk_grid_is_used() -> None:
    @extensions.chunk_grids.register("example.halves")
    class Halves:
        """Two chunks along each dimension."""

        @staticmethod
        def from_json(configuration: Any, array_shape: Any) -> ChunkGrid:
            return ChunkGrid.regular(array_shape, [max(1, -(-extent // 2)) for extent in array_shape])

    objects: dict[str, Any] = {}
    try:
        zarrant.create_array(objects, shape=(6,), dtype="uint8", chunks=(6,), fill_value=7)
        document = json.loads(bytes(objects["zarr.json"]))
        objects["zarr.json"] = json.dumps(document | {"chunk_grid": {"name": "example.halves"}}).encode()
        array = zarrant.open_array(objects)
        assert array.chunks == (3,)
        array[2:4] = [1, 2]
        assert zarrant.open_array(objects)[...].tolist() == [7, 7, 1, 2, 7, 7]
        assert {"c/0", "c/1"} < objects.keys()
    finally:
        extensions.chunk_grids.unregister("example.halves")


def test_a_registered_key_encoding_is_used() -> None:
    @extensions.chunk_key_encodings.register("example.hex")
    class Hex:
        """Indices in base 16."""

        @classmethod
        def from_json(cls, name: str, configuration: Any) -> Hex:
            return cls()

        def to_document(self) -> tuple[str, dict[str, Any]]:
            return "example.hex", {}

        def key(self, index: Any) -> str:
            return "-".join(f"{i:x}" for i in index) or "x"

        def keys(self, indices: Any) -> list[str]:
            return [self.key(row) for row in indices.tolist()]

        def parse(self, key: str, ndim: int | None = None) -> tuple[int, ...] | None:
            return tuple(int(part, 16) for part in key.split("-")) if re.fullmatch("[0-9a-f]+(-[0-9a-f]+)*", key) else None

    objects: dict[str, Any] = {}
    try:
        array = zarrant.create_array(objects, shape=(12,), dtype="uint8", chunks=(1,), chunk_key_encoding={"name": "example.hex"})
        array[...] = range(1, 13)
        assert {"a", "b", "0"} < objects.keys()
        assert zarrant.open_array(objects)[10:].tolist() == [11, 12]
        array.resize((11,), shrink=True)
        assert "b" not in objects
    finally:
        extensions.chunk_key_encodings.unregister("example.hex")


def test_a_registered_scheme_opens_a_store() -> None:
    stores: dict[str, MemoryStore] = {}

    @extensions.stores.register("example")
    class Example:
        @staticmethod
        def from_url(url: str, options: Any) -> Any:
            name, _, prefix = url.removeprefix("example://").partition("/")
            store = stores.setdefault(name + options.get("suffix", ""), MemoryStore())
            return (store, f"{prefix}/") if prefix else store

    try:
        zarrant.create_array("example://one", shape=(2,), dtype="uint8")
        zarrant.create_array("example://two/a/b", shape=(2,), dtype="uint8", storage_options={"suffix": "2"})
        assert zarrant.open_array("example://one").shape == (2,)
        assert list(stores) == ["one", "two2"]
        assert stores["two2"].get("a/b/zarr.json") is not None
    finally:
        extensions.stores.unregister("example")
    with pytest.raises(OptionError, match="unknown kind of store"):
        zarrant.open_array("example://one")
    with pytest.raises(OptionError, match="Did you mean 'memory'"):
        zarrant.open_array("memroy://one")


def test_importing_imports_little() -> None:
    """numcodecs takes 30 ms, asyncio 20; the families of data types are for who uses them."""
    code = "import sys, zarrant; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    late = {"numcodecs", "importlib.metadata", "zarrant.dtypes.strings", "zarrant.dtypes.structured"}
    late |= {"asyncio", "concurrent.futures", "logging", "hashlib", "socket"}
    assert not late & set(found)


def test_every_codec_of_the_library_is_exported() -> None:
    """But those that stand for filters and object codecs of numcodecs, which are given as objects of numcodecs or by name."""
    exported = {getattr(zarrant.codecs, name) for name in zarrant.codecs.__all__}
    missing = {codec.name for codec in extensions.codecs.classes() if codec not in exported}
    assert all(name.startswith("numcodecs.") for name in missing), missing
    assert set(zarrant.codecs.__all__) <= set(dir(zarrant.codecs))
    with pytest.raises(AttributeError, match="Zip"):
        _ = zarrant.codecs.Zip
