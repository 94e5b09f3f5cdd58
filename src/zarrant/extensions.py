"""Names in documents and URLs to the classes that implement them: one registry of each kind.

In comes a name ("zstd", "numcodecs.delta", "r24", "s3"), out goes the class registered for it, imported the first time it is
asked for. There are five kinds: `codecs`, `data_types`, `chunk_grids`, `chunk_key_encodings` and `stores` (URL schemes). What
is registered is checked at once: a class that lacks a method is an `OptionError` here, not a failure at the first write.

>>> @chunk_grids.register("example.spiral")
... class Spiral:
...     pass
Traceback (most recent call last):
...
zarrant.errors.OptionError: Spiral is not one of the chunk_grids: it has no from_json...

A name that is not registered is looked up among the entry points `zarrant.<kind>` of installed packages, then refused with
`UnknownExtensionError`. Stored metadata chooses among registered names only: it can never name a module to import, and the
configuration of an extension never selects other code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TypeVar, overload

from zarrant.errors import OptionError, UnknownExtensionError, did_you_mean

T = TypeVar("T")

Target = str | object
"""`"module:attribute"`, or the class itself."""


_DECLARE = "Of what each instance has of its own, an annotation in the class is enough"


class Contract(NamedTuple):
    """What a class must have to be registered: methods, and other members (which may be set for each instance)."""

    methods: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = {}
    """Members that have one of a few values."""

    def missing(self, target: object) -> list[str]:
        """What `target` lacks."""
        lacking = [name for name in self.methods if not callable(getattr(target, name, None))]
        return lacking + [name for name in (*self.members, *self.choices) if not _declares(target, name)]


def _declares(target: object, name: str) -> bool:
    """Whether a class has a member, or says by an annotation that its instances have it."""
    classes = target.__mro__ if isinstance(target, type) else (type(target),)
    return hasattr(target, name) or any(name in getattr(base, "__annotations__", {}) for base in classes)


class Registry:
    """One kind of extension: names, patterns of names, aliases, and hints for names that are known to live elsewhere.

    >>> tables = Registry("codecs", {"zstd": "zlib:compressobj"}, aliases={"zstandard": "zstd"})
    >>> tables.canonical("zstandard")
    'zstd'
    """

    def __init__(
        self,
        kind: str,
        names: Mapping[str, Target] | None = None,
        *,
        contract: Contract | None = None,
        patterns: Sequence[tuple[str, str, Target]] = (),
        aliases: Mapping[str, str] | None = None,
        hints: Sequence[tuple[str, str]] = (),
    ) -> None:
        r"""`patterns` are (shown form, regular expression, target); `hints` are (regular expression, sentence).

        A sentence may say what was matched: `\g<0>`.
        """
        self.kind = kind
        self.contract = contract or Contract()
        self._names: dict[str, Target] = dict(names or {})
        self._patterns = [(shown, re.compile(pattern), target) for shown, pattern, target in patterns]
        self._aliases = dict(aliases or {})
        self._hints = [(re.compile(pattern), hint) for pattern, hint in hints]
        self._loaded: dict[str, Any] = {}
        self._classes: list[Any] | None = None
        self.changes = 0
        """How often a name was registered or forgotten: what was made of names before may have another meaning."""

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, {len(self.names())} names)"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(self.canonical(name)) is not None

    def is_registered(self, name: str) -> bool:
        """Whether the name resolves without a look at what the installed packages offer."""
        return self._registered(self.canonical(name)) is not None

    def classes(self) -> list[Any]:
        """Every class that is registered under a plain name, each once, imported where it was not."""
        if self._classes is None:  # asked for by every array that is made
            self._classes = list(dict.fromkeys(self.resolve(name) for name in list(self._names)))
        return self._classes

    def names(self) -> list[str]:
        """Every name that resolves here, patterns in their shown form, sorted; entry points are not searched."""
        return sorted({*self._names, *self._aliases, *(shown for shown, _, _ in self._patterns)})

    def canonical(self, name: str) -> str:
        """The name an alias stands for; any other name unchanged."""
        return self._aliases.get(name, name)

    @overload
    def register(self, name: str, target: None = None, *, aliases: Sequence[str] = ()) -> Callable[[T], T]: ...

    @overload
    def register(self, name: str, target: T, *, aliases: Sequence[str] = ()) -> T: ...

    def register(self, name: str, target: Any = None, *, aliases: Sequence[str] = ()) -> Any:
        """Add a name, or replace what it stands for.

        `target` is a class, or `"module:attribute"`, which is imported when the name is first asked for. Without it this is a
        decorator. OptionError where the class lacks something that every extension of this kind has.
        """
        if not isinstance(name, str) or not name:
            raise OptionError("an extension needs a name", field=self.kind, expected="a non-empty string", got=repr(name))
        if target is None:
            return lambda decorated: self.register(name, decorated, aliases=aliases)
        if not isinstance(target, str):
            self.check(target)
        elif not re.fullmatch(r"[\w.]+:\w+", target):
            raise OptionError("a target that cannot be imported", field=self.kind, expected='"module:attribute"', got=target)
        self._aliases.pop(name, None)
        self._names[name] = target
        self._loaded.pop(name, None)
        self._classes = None
        self.changes += 1
        self._aliases.update(dict.fromkeys(aliases, name))
        return target

    def check(self, target: object) -> None:
        """OptionError where `target` cannot be an extension of this kind: it says what is missing or has a wrong value."""
        called = getattr(target, "__name__", repr(target))
        if missing := self.contract.missing(target):
            raise OptionError(
                f"{called} is not one of the {self.kind}: it has no {', '.join(missing)}",
                field=self.kind,
                expected=", ".join((*self.contract.methods, *self.contract.members, *self.contract.choices)),
                got=called,
                hint=_DECLARE if set(missing) - set(self.contract.methods) else None,
            )
        for name, choices in self.contract.choices.items():
            value = getattr(target, name, choices[0])
            if isinstance(value, str) and value not in choices:
                raise OptionError(f"{called} has a wrong {name}", field=self.kind, expected=" | ".join(choices), got=value)

    def unregister(self, name: str) -> None:
        """Forget a name and its aliases; succeed if it is not there."""
        self._names.pop(name, None)
        self._loaded.pop(name, None)
        self._classes = None
        self.changes += 1
        self._aliases = {alias: of for alias, of in self._aliases.items() if of != name}

    def resolve(self, name: str, path: str | None = None) -> Any:
        """The object registered for `name`; UnknownExtensionError, with the JSON `path`, where there is none."""
        name = self.canonical(name)
        if name in self._loaded:
            return self._loaded[name]
        target = self._find(name)
        if target is None:
            raise self.unknown(name, path)
        try:
            found = _load(target)
        except (ImportError, AttributeError) as cause:
            raise UnknownExtensionError(
                f"{name!r} is registered among the {self.kind} but {target!r} cannot be imported",
                field=self.kind,
                got=name,
                path=path,
            ) from cause
        if isinstance(target, str):
            self.check(found)
        self._loaded[name] = found
        return found

    def unknown(self, name: str, path: str | None = None) -> UnknownExtensionError:
        """The error for a name that is not known: it lists the known ones and says where the name may be found."""
        return UnknownExtensionError(
            f"{name!r} is not among the known {self.kind}",
            field=self.kind,
            got=name,
            expected=[name for name in self.names() if not any(pattern.fullmatch(name) for _, pattern, _ in self._patterns)],
            path=path,
            hint=self.hint(name),
        )

    def _registered(self, name: str) -> Target | None:
        if name in self._names:
            return self._names[name]
        return next((target for _, pattern, target in self._patterns if pattern.fullmatch(name)), None)

    def _find(self, name: str) -> Target | None:
        if target := self._registered(name):
            return target
        from importlib import metadata  # importing it costs 7 % of importing this library, and most names are found by now

        for point in metadata.entry_points(group=f"zarrant.{self.kind}", name=name):
            return point.value
        return None

    def hint(self, name: str) -> str | None:
        """Where a name that is not known may be found, or which known one is near."""
        for pattern, hint in self._hints:
            if match := pattern.fullmatch(name):
                return match.expand(hint)
        return did_you_mean(name, self.names()) or f"A package can add it through the entry point group 'zarrant.{self.kind}'"


def _load(target: Target) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


# Codecs of the numcodecs package, which have long names in V3:
# https://numcodecs.readthedocs.io/en/stable/zarr3.html
_IN_NUMCODECS = "adler32|bz2|crc32|fletcher32|jenkins_lookup3|lz4|lzma|shuffle|zlib|astype|delta|fixedscaleoffset|quantize"
_FILTERS = ("Delta", "FixedScaleOffset", "Quantize", "AsType", "BitRound", "PackBits")
_OBJECT_CODECS = ("Categorize", "Json2", "MsgPack2")

codecs = Registry(
    "codecs",
    {
        "bytes": "zarrant.codecs.library.bytes:Bytes",
        "sharding_indexed": "zarrant.codecs.sharding.codec:ShardingIndexed",
        "transpose": "zarrant.codecs.library.transpose:Transpose",
        "blosc": "zarrant.codecs.library.blosc:Blosc",
        "gzip": "zarrant.codecs.library.gzip:Gzip",
        "zstd": "zarrant.codecs.library.zstd:Zstd",
        "crc32c": "zarrant.codecs.library.crc32c:Crc32c",
        "vlen-utf8": "zarrant.codecs.library.vlen:VlenUtf8",
        "vlen-bytes": "zarrant.codecs.library.vlen:VlenBytes",
        "numcodecs.crc32c": "zarrant.codecs.library.crc32c:NumcodecsCrc32c",
        **{f"numcodecs.{name.lower()}": f"zarrant.codecs.library.numcodecs_filters:{name}" for name in _FILTERS},
        **{f"numcodecs.{name.lower()}": f"zarrant.codecs.library.numcodecs_objects:{name}" for name in _OBJECT_CODECS},
        "bitround": "zarrant.codecs.library.bitround:BitRound",
        "cast_value": "zarrant.codecs.library.cast_value:CastValue",
        "numcodecs.zfpy": "zarrant.codecs.library.numcodecs_zfpy:Zfpy",
        "numcodecs.pcodec": "zarrant.codecs.library.pcodec:PCodec",
        "packbits": "zarrant.codecs.library.packbits:PackBits",
        "reshape": "zarrant.codecs.library.reshape:Reshape",
        "scale_offset": "zarrant.codecs.library.scale_offset:ScaleOffset",
        "zfp": "zarrant.codecs.library.zfp:Zfp",
    },
    contract=Contract(
        ("from_json", "to_json", "resolve"), ("name",), {"kind": ("array_to_array", "array_to_bytes", "bytes_to_bytes")}
    ),
    patterns=[("numcodecs.*", r"numcodecs\.[\w-]+", "zarrant.codecs.library.numcodecs_adapter:Numcodecs")],
    aliases={"endian": "bytes"},  # the name of `bytes` before the specification was final
    hints=[
        (_IN_NUMCODECS, r"Its name in Zarr V3 is 'numcodecs.\g<0>'"),
        (r"zfpy", "Its name in Zarr V3 is 'numcodecs.zfpy', or 'zfp' where the data have no header"),
        (r"pcodec|pco", "Its name in Zarr V3 is 'numcodecs.pcodec'"),
        (r"zarrs\.\w+", "It is an experiment of zarrs, which alone has it"),
        (r"imagecodecs_\w+", "Only the package 'imagecodecs' has it, for zarr-python"),
        (r"vlen-array|vlen", "Arrays of variable length are not supported; text is stored as 'vlen-utf8', bytes as 'vlen-bytes'"),
    ],
)

_NUMBERS = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 bfloat16"
_SMALL_FLOATS = (
    *("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
_COMPLEX = ("bfloat16", "float16", "float32", "float64", *_SMALL_FLOATS)
_DTYPES = "zarrant.dtypes"

data_types = Registry(
    "data_types",
    {
        **dict.fromkeys(_NUMBERS.split(), f"{_DTYPES}.fixed:Number"),
        "raw_bytes": f"{_DTYPES}.fixed:RawBits",
        **dict.fromkeys(["int2", "int4", "uint2", "uint4", *_SMALL_FLOATS], f"{_DTYPES}.sub_byte:SmallNumber"),
        **dict.fromkeys([f"complex_{part}" for part in _COMPLEX], f"{_DTYPES}.sub_byte:SmallComplex"),
        **dict.fromkeys(["numpy.datetime64", "numpy.timedelta64"], f"{_DTYPES}.temporal:Time"),
        "fixed_length_utf32": f"{_DTYPES}.strings:FixedText",
        "null_terminated_bytes": f"{_DTYPES}.strings:FixedBytes",
        "string": f"{_DTYPES}.strings:Text",
        **dict.fromkeys(["bytes", "variable_length_bytes"], f"{_DTYPES}.strings:AnyBytes"),
        **dict.fromkeys(["struct", "structured"], f"{_DTYPES}.structured:Struct"),
    },
    contract=Contract(
        ("from_json", "to_json", "fill_from_json", "fill_from_python", "default_fill", "as_values"),
        ("name", "numpy", "itemsize", "word"),
    ),
    patterns=[("r<bits>", r"r[0-9]+", f"{_DTYPES}.fixed:RawBits")],
)

chunk_grids = Registry(
    "chunk_grids",
    {"regular": "zarrant.geometry.grid:ChunkGrid", "rectilinear": "zarrant.geometry.rectilinear:RectilinearGrid"},
    contract=Contract(("from_json",)),
    hints=[(r"rectangular", "It became 'rectilinear' before it was published")],
)

chunk_key_encodings = Registry(
    "chunk_key_encodings",
    dict.fromkeys(["default", "v2"], "zarrant.geometry.keys:KeyEncoding"),
    contract=Contract(("from_json", "to_document", "key", "keys", "parse")),
)

stores = Registry(
    "stores",
    {
        "file": "zarrant.stores.resolve:FileUrl",
        "memory": "zarrant.stores.resolve:MemoryUrl",
        "s3": "zarrant.stores.object_urls:S3Url",
        "gs": "zarrant.stores.object_urls:GcsUrl",
        "az": "zarrant.stores.object_urls:AzureUrl",
        **dict.fromkeys(["http", "https"], "zarrant.stores.object_urls:HttpUrl"),
        "zip": "zarrant.stores.resolve:ZipUrl",
    },
    contract=Contract(("from_url",)),
    hints=[("s3a|s3n", "Its name here is 's3'"), ("gcs", "Its name here is 'gs'"), ("abfss?|azure|adl", "Its name here is 'az'")],
)
