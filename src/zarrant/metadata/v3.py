"""Version 3 documents (`zarr.json`): bytes to frozen dataclasses and back.

In comes the content of one `zarr.json`, out goes an `ArrayMetadata` or a `GroupMetadata`; `dump` is the way back and writes
the same bytes for equal documents. A document ends in one of three ways: it is understood, it breaks the specification
(`MetadataError` with the JSON path), or it is beyond a safety limit (`LimitError`). Here the *form* is checked; whether a
codec, grid or data type exists and likes its configuration is for the rooms that own them.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar

from zarrant import extensions
from zarrant.errors import DataTypeError, MetadataError, ShapeError, UnknownExtensionError, shown
from zarrant.limits import LIMITS, Limits, require
from zarrant.metadata.json_text import dump_json, member, parse_json, plain
from zarrant.metadata.remembered import Remembered, is_plain, place_of
from zarrant.metadata.turn import NAME as TURN
from zarrant.metadata.turn import Turn

D = TypeVar("D")
Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, or lists and dicts of them."""

MAX_SIZE = 2**63 - 1
CONSOLIDATED = "consolidated_metadata"
DIMENSIONS_V2 = "_ARRAY_DIMENSIONS"
_IGNORABLE = 'Only an object with "must_understand": false may be ignored'


@dataclass(frozen=True)
class Named:
    """The name and configuration of an extension: `"crc32c"` or `{"name": ..., "configuration": {...}}`.

    `bare`: written as a plain string. `explicit`: written with a configuration even if that is empty. `must_understand` is
    None where the document does not say (which means true).

    >>> Named("gzip", {"level": 5}).to_json()
    {'name': 'gzip', 'configuration': {'level': 5}}
    """

    name: str
    configuration: Mapping[str, Json] = field(default_factory=dict)
    bare: bool = False
    must_understand: bool | None = None
    explicit: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, value: Json, path: str) -> Self:
        """Read a string or an object; MetadataError at `path` for anything else."""
        if isinstance(value, str):
            return cls(_name(value, path), bare=True)
        if not isinstance(value, dict):
            raise _wrong(path, "a name or an object with a name", value)
        for key in value:
            if key not in ("name", "configuration", "must_understand"):
                raise MetadataError(
                    "unknown member", path=member(path, key), expected="name, configuration, must_understand", got=key
                )
        understand = value.get("must_understand")
        if "must_understand" in value and not isinstance(understand, bool):
            raise _wrong(f"{path}.must_understand", "true or false", understand)
        configuration = value.get("configuration", {})
        if not isinstance(configuration, dict):
            raise _wrong(f"{path}.configuration", "an object", configuration)
        name = _name(_required(value, "name", path), f"{path}.name")
        return cls(name, configuration, must_understand=understand, explicit="configuration" in value)

    @property
    def may_ignore(self) -> bool:
        """True where a reader that does not know the extension may go on without it."""
        return self.must_understand is False

    def to_json(self) -> Json:
        """The form it was read in."""
        if self.bare and not self.configuration and self.must_understand is None:
            return self.name
        value: dict[str, Json] = {"name": self.name}
        if self.configuration or self.explicit:
            value["configuration"] = dict(self.configuration)
        if self.must_understand is not None:
            value["must_understand"] = self.must_understand
        return value


@dataclass(frozen=True)
class ArrayMetadata:
    """The metadata of an array. `fill_value` is the JSON value; `extra` holds unknown members that may be ignored."""

    shape: tuple[int, ...]
    data_type: Named
    chunk_grid: Named
    chunk_key_encoding: Named
    fill_value: Json
    codecs: tuple[Named, ...]
    attributes: dict[str, Json] = field(default_factory=dict)
    storage_transformers: tuple[Named, ...] = ()
    dimension_names: tuple[str | None, ...] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)
    version: object = field(default=None, compare=False, repr=False)
    """What the store calls the stored object with these members; None where that is not known."""
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What the specification does not allow in what is stored, and is read all the same; it is not written again."""
    v2: Mapping[str, Json] | None = field(default=None, repr=False)
    """Where the array is stored as Zarr V2: the members of its `.zarray`, but for the shape, as they are written back."""
    turn: Turn | None = field(default=None, compare=False, repr=False)
    """Whose turn it is to change the shape. Only `dump` writes it."""

    def with_version(self, version: object) -> Self:
        """The same metadata, of a stored object that the store calls by this version."""
        return _changed(self, {"version": version})

    @property
    def zarr_format(self) -> int:
        """The version of the format in which the array is stored."""
        return 3 if self.v2 is None else 2

    def with_attributes(self, attributes: Mapping[str, Json]) -> Self:
        """The same array with other attributes."""
        changed: dict[str, Json] = plain(attributes_of(attributes))
        names = self.dimension_names if self.v2 is None else array_dimensions(changed, len(self.shape))
        return replace(self, attributes=changed, dimension_names=names, version=None)

    def with_shape(self, shape: Sequence[int]) -> Self:
        """The same array with another shape; the number of dimensions stays."""
        if len(shape) != len(self.shape):
            raise ShapeError("an array keeps its number of dimensions", expected=len(self.shape), got=tuple(shape))
        if any(isinstance(n, bool) or not hasattr(n, "__index__") or not 0 <= n <= MAX_SIZE for n in shape):
            raise ShapeError("a shape that an array cannot have", expected=f"integers in 0..{MAX_SIZE}", got=tuple(shape))
        return replace(self, shape=tuple(int(n) for n in shape), version=None)

    def to_json(self) -> dict[str, Json]:
        """The document as a JSON value, members in the order of the specification, unknown ones last.

        Of an array that is stored as Zarr V2, the members of its `.zarray`, and its attributes.
        """
        if self.v2 is not None:
            return {"zarr_format": 2, "shape": list(self.shape), **self.v2, "attributes": self.attributes}
        value: dict[str, Json] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.data_type.to_json(),
            "chunk_grid": self.chunk_grid.to_json(),
            "chunk_key_encoding": self.chunk_key_encoding.to_json(),
            "fill_value": self.fill_value,
            "codecs": [codec.to_json() for codec in self.codecs],
            "attributes": self.attributes,
        }
        if self.dimension_names is not None:
            value["dimension_names"] = list(self.dimension_names)
        if self.storage_transformers:
            value["storage_transformers"] = [item.to_json() for item in self.storage_transformers]
        return value | {key: item for key, item in self.extra.items() if key not in value}


@dataclass(frozen=True)
class GroupMetadata:
    """The metadata of a group; `extra` holds unknown members that may be ignored, and `consolidated_metadata`."""

    attributes: dict[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)
    v2: Mapping[str, Json] | None = field(default=None, repr=False)
    """Where the group is stored as Zarr V2: what its `.zgroup` has besides the version; most have nothing."""

    @property
    def zarr_format(self) -> int:
        """The version of the format in which the group is stored."""
        return 3 if self.v2 is None else 2

    @property
    def consolidated(self) -> Mapping[str, Json] | None:
        """The metadata of the nodes below by their paths, as JSON values, where the group keeps copies of them; else None."""
        copy = self.extra.get(CONSOLIDATED)
        entries = copy.get("metadata") if isinstance(copy, Mapping) and copy.get("kind") == "inline" else None
        return entries if isinstance(entries, Mapping) else None

    @property
    def about_to_consolidate(self) -> bool:
        """Whether there are no copies yet, but somebody said that he is making them (or was killed, or is zarr-python 3.0)."""
        return self.consolidated is None and CONSOLIDATED in self.extra

    def with_announcement(self) -> Self:
        """The same group without copies, which says that they are being made: to other libraries it says that there are none."""
        return replace(self, extra={**self.with_consolidated(None).extra, CONSOLIDATED: None})

    def with_consolidated(self, entries: Mapping[str, Json] | None) -> Self:
        """The same group with copies of the metadata of the nodes below; None: without."""
        extra = {key: item for key, item in self.extra.items() if key != CONSOLIDATED}
        if entries is not None:
            # The form that zarr-python 3 writes and reads; it is not (yet) part of the specification.
            extra[CONSOLIDATED] = {"kind": "inline", "must_understand": False, "metadata": dict(entries)}
        return replace(self, extra=extra)

    def with_attributes(self, attributes: Mapping[str, Json]) -> Self:
        """The same group with other attributes."""
        return replace(self, attributes=plain(attributes_of(attributes)))

    def to_json(self) -> dict[str, Json]:
        """The document as a JSON value, unknown members last."""
        if self.v2 is not None:
            return {"zarr_format": 2, **self.v2, "attributes": self.attributes}
        value: dict[str, Json] = {"zarr_format": 3, "node_type": "group", "attributes": self.attributes}
        return value | {key: item for key, item in self.extra.items() if key not in value}


NodeMetadata: TypeAlias = ArrayMetadata | GroupMetadata
M = TypeVar("M", bound=NodeMetadata)


def parse(data: bytes, limits: Limits = LIMITS, version: object = None) -> NodeMetadata:
    """Read a `zarr.json`; `version`: what the store calls it, which metadata of an array keep.

    >>> parse(b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": 1}}').attributes
    {'a': 1}
    """
    if limits is not LIMITS or len(data) > MAX_KNOWN_BYTES:
        return of_version(_document(parse_json(data, limits), limits), version)
    place = bytes(data), extensions.codecs.changes
    found = _known.get(place)
    if found is not None:
        return found.copy(version)
    document = _document(parse_json(data, limits), limits)
    kept = Kept.of(document) if isinstance(document, ArrayMetadata) else None
    if kept is None:
        return of_version(document, version)
    if len(_known) >= MAX_KNOWN:
        _known.clear()
    _known[place] = kept
    return kept.copy(version)


def of_version(metadata: M, version: object) -> M:
    """The metadata, of this version."""
    return metadata.with_version(version) if isinstance(metadata, ArrayMetadata) else metadata


class Kept(NamedTuple):
    """The metadata of an array of which copies are made, and what of it can be changed in the form of `marshal`."""

    metadata: ArrayMetadata
    changeable: bytes

    @classmethod
    def of(cls, metadata: ArrayMetadata) -> Kept | None:
        """Metadata to be kept; None where there is more in them than `marshal` knows, as words that only some take for JSON."""
        named = (*[getattr(metadata, name) for name in _NAMED], *metadata.codecs, *metadata.storage_transformers)
        values = metadata.fill_value, metadata.attributes, metadata.extra, [each.configuration for each in named]
        place = place_of(values)
        return None if place is None or not is_plain(values) else cls(metadata, place)

    def copy(self, version: object = None) -> ArrayMetadata:
        """The same metadata, of which nothing that can be changed is shared, of a version."""
        metadata, changes = self.metadata, dict[str, Any](version=version)
        changes["fill_value"], changes["attributes"], changes["extra"], configurations = marshal.loads(self.changeable)
        copies = iter(configurations)
        old = metadata.__dict__
        for name in _NAMED:
            changes[name] = _changed(old[name], {"configuration": next(copies)})
        for name in ("codecs", "storage_transformers"):
            if old[name]:
                changes[name] = tuple([_changed(each, {"configuration": next(copies)}) for each in old[name]])
        return _changed(metadata, changes)


_known: dict[tuple[bytes, int], Kept] = {}
"""By its text and what is registered: the metadata of an array."""
MAX_KNOWN, MAX_KNOWN_BYTES = 256, 1 << 12
"""Texts of arrays of which the metadata are remembered, and how long one may be: reading a short one takes 25 µs, copying 4."""

_NAMED = ("data_type", "chunk_grid", "chunk_key_encoding")


def _changed(item: D, changes: Mapping[str, Any]) -> D:
    """`dataclasses.replace` of what was validated already, in a third of the time."""
    new = object.__new__(type(item))
    members = new.__dict__
    members.update(item.__dict__)
    members.update(changes)
    return new


def _document(value: Json, limits: Limits, lenient: bool = True) -> NodeMetadata:
    if not isinstance(value, dict):
        raise _wrong("$", "an object", value)
    version = _required(value, "zarr_format", "$")
    if type(version) is not int or version != 3:
        raise _wrong("$.zarr_format", "the integer 3", version)
    kind = _required(value, "node_type", "$")
    if kind == "array":
        return _array(value, limits, lenient)
    if kind == "group":
        return GroupMetadata(_attributes(value), _extra(value, GROUP_MEMBERS, group=True))
    raise _wrong("$.node_type", '"array" or "group"', kind)


def parse_array(data: bytes, limits: Limits = LIMITS) -> ArrayMetadata:
    """Read a `zarr.json` that must be an array's."""
    document = parse(data, limits)
    if not isinstance(document, ArrayMetadata):
        raise MetadataError("this node is a group", path="$.node_type", expected="array", got="group")
    return document


def parse_group(data: bytes, limits: Limits = LIMITS) -> GroupMetadata:
    """Read a `zarr.json` that must be a group's."""
    document = parse(data, limits)
    if not isinstance(document, GroupMetadata):
        raise MetadataError("this node is an array", path="$.node_type", expected="group", got="array")
    return document


def dump(document: NodeMetadata) -> bytes:
    """Write a `zarr.json`: UTF-8, two spaces of indent, the same bytes for equal documents.

    `parse` gives the document back: what it would refuse is refused here, so that nothing is stored that cannot be opened.
    """
    value = document.to_json()
    turn, new = (document.turn, document.version is None) if isinstance(document, ArrayMetadata) else (None, False)
    # Those of arrays that are stored already change, and seldom to what was written before.
    place = place_of((value, extensions.codecs.changes)) if new and turn is None else None  # safety: known written form
    found = None if place is None else _dumped.get(place)
    if found is None:
        _document(value, LIMITS, lenient=False)  # safety: written form
        if turn is not None:
            value[TURN] = turn.to_json()
        found = dump_json(value)
        if place is not None and len(found) <= MAX_KNOWN_BYTES:
            _dumped.keep(place, value, found)
    return found


_dumped: Remembered[bytes] = Remembered()


_BOTH = ("zarr_format", "node_type", "attributes")
GROUP_MEMBERS = frozenset(_BOTH)
ARRAY_MEMBERS = frozenset(
    (
        *_BOTH,
        *("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
        *("dimension_names", "storage_transformers"),
    )
)


def _array(value: dict[str, Json], limits: Limits, lenient: bool) -> ArrayMetadata:
    notes: list[str] = []
    if lenient:
        value = _forgiven(value, notes)
    shape = _shape(_required(value, "shape", "$"), limits)
    extra = _extra(value, ARRAY_MEMBERS, group=False)
    turn = extra.pop(TURN, None)
    return ArrayMetadata(
        shape=shape,
        data_type=_understood(value, "data_type"),
        chunk_grid=_understood(value, "chunk_grid"),
        chunk_key_encoding=_understood(value, "chunk_key_encoding"),
        fill_value=_required(value, "fill_value", "$"),
        codecs=_codecs(_required(value, "codecs", "$"), limits),
        attributes=_attributes(value),
        storage_transformers=_transformers(value),
        dimension_names=_dimension_names(value.get("dimension_names"), len(shape)),
        extra=extra,
        notes=tuple(notes),
        turn=None if turn is None else Turn.from_json(turn),
    )


_ZEROS = (
    (r"bool", False),
    (r"u?int[0-9]+", 0),
    (r"b?float[0-9]+\w*", 0.0),
    (r"complex\w+", [0.0, 0.0]),
    (r"numpy\.(datetime|timedelta)64", 0),
    (r"string|fixed_length_utf32|null_terminated_bytes|bytes|variable_length_bytes", ""),
)
"""The fill value that stands for null, by the name of the data type."""


def _forgiven(value: dict[str, Json], notes: list[str]) -> dict[str, Json]:
    """The members as they should be, where current programs are known to write what the specification does not allow."""
    named = value.get("data_type")
    name = str(named.get("name") if isinstance(named, dict) else named)
    fill = value.get("fill_value", _MISSING)
    if fill is None:  # GDAL 3.12, for arrays without a value for "no data"; zarrita.js 0.7
        zero = next((zero for pattern, zero in _ZEROS if re.fullmatch(pattern, name)), None)
        if re.fullmatch(r"r[0-9]{1,9}", name) and int(name[1:]) // 8 <= LIMITS.element:
            zero = [0] * (int(name[1:]) // 8)
        if zero is not None:
            notes.append("fill_value is null: elements that are not stored are read as zeros")
            value = {**value, "fill_value": zero}
    elif isinstance(fill, float) and fill.is_integer() and re.fullmatch(r"u?int[0-9]+", name):
        notes.append(f"fill_value is {fill}, which is no integer")
        value = {**value, "fill_value": int(fill)}
    if value.get("codecs") == []:  # zarrita.js 0.7, for arrays without compression
        notes.append("codecs is empty: chunks are read as bytes, little-endian")
        value = {**value, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}
    codecs = _renamed(value.get("codecs"), notes)
    return value if codecs is value.get("codecs") else {**value, "codecs": codecs}


def _renamed(codecs: Json, notes: list[str]) -> Json:
    """The codecs, also those of shards, under their own names where an alias stands for one (`endian` for `bytes`)."""
    if not isinstance(codecs, list):
        return codecs
    found = [_renamed_codec(codec, notes) for codec in codecs]
    return codecs if all(new is old for new, old in zip(found, codecs, strict=True)) else found


def _renamed_codec(codec: Json, notes: list[str]) -> Json:
    named = codec if isinstance(codec, dict) else {"name": codec}
    changed: dict[str, Json] = {}
    name = named.get("name")
    if isinstance(name, str) and (canonical := extensions.codecs.canonical(name)) != name:
        notes.append(f"codecs: {canonical!r} is called {name!r}")
        changed["name"] = canonical
    configuration = named.get("configuration")
    if isinstance(configuration, dict):
        inner = {key: _renamed(configuration[key], notes) for key in ("codecs", "index_codecs") if key in configuration}
        if any(inner[key] is not configuration[key] for key in inner):
            changed["configuration"] = {**configuration, **inner}
    if not changed:
        return codec
    return {**named, **changed} if isinstance(codec, dict) else changed["name"]


_MISSING = object()


def _understood(value: dict[str, Json], key: str) -> Named:
    """An extension that every reader must know: "`must_understand=False` is not supported for the following extension points:
    data type, chunk grid, and chunk key encoding." (section "must_understand" of the specification)
    """
    named = Named.parse(_required(value, key, "$"), f"$.{key}")
    if named.may_ignore:
        raise _wrong(f"$.{key}.must_understand", "true, or no such member", False)
    return named


def _wrong(path: str, expected: str, got: Json) -> MetadataError:
    return MetadataError("wrong value", path=path, expected=expected, got=shown(got))


def _required(value: dict[str, Json], key: str, path: str) -> Json:
    if key not in value:
        raise MetadataError("missing member", path=path, expected=key, got=sorted(map(str, value)))
    return value[key]


def _name(value: Json, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(path, "a non-empty name", value)
    return value


def _list(value: Json, path: str) -> list[Json]:
    if not isinstance(value, list):
        raise _wrong(path, "a list", value)
    return value


def _shape(value: Json, limits: Limits) -> tuple[int, ...]:
    lengths = _list(value, "$.shape")
    require(len(lengths), limits.rank, "too many dimensions", "rank", "$.shape")
    for i, length in enumerate(lengths):
        if type(length) is not int or not 0 <= length <= MAX_SIZE:
            raise _wrong(f"$.shape[{i}]", f"an integer in 0..{MAX_SIZE}", length)
    return tuple(lengths)


def _codecs(value: Json, limits: Limits) -> tuple[Named, ...]:
    items = _list(value, "$.codecs")
    if not items:  # "Because codecs MUST contain an array -> bytes codec, the list cannot be empty" (core, codecs)
        raise _wrong("$.codecs", "at least one codec", value)
    require(len(items), limits.chain, "a codec chain that is too long", "codecs", "$.codecs")
    return tuple(Named.parse(item, f"$.codecs[{i}]") for i, item in enumerate(items))


def attributes_of(value: object) -> dict[str, Json]:
    """A caller's attributes, which must be a mapping. What they hold is looked at when they are written."""
    if not isinstance(value, Mapping):
        expected = "a mapping of names to JSON values"
        raise DataTypeError("not attributes", field="attributes", expected=expected, got=type(value).__name__)
    return dict(value)


def array_dimensions(attributes: Mapping[str, Json], rank: int) -> tuple[str | None, ...] | None:
    """The names of dimensions in the attribute in which xarray and netCDF-C keep them for Zarr V2; None where there are none.

    >>> array_dimensions({"_ARRAY_DIMENSIONS": ["y", "x"]}, 2)
    ('y', 'x')
    """
    names = attributes.get(DIMENSIONS_V2)
    if not isinstance(names, list) or len(names) != rank or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _attributes(value: dict[str, Json]) -> dict[str, Json]:
    attributes = value.get("attributes", {})
    if not isinstance(attributes, dict):
        raise _wrong("$.attributes", "an object", attributes)
    return attributes


def _transformers(value: dict[str, Json]) -> tuple[Named, ...]:
    path = "$.storage_transformers"  # "When [it] is absent no storage transformer is used, same for an empty list." (core)
    items = _list(value.get("storage_transformers", []), path)
    transformers = tuple(Named.parse(item, f"{path}[{i}]") for i, item in enumerate(items))
    for i, item in enumerate(transformers):
        if not item.may_ignore:
            raise UnknownExtensionError(
                "unknown storage transformer",
                field="storage_transformers",
                path=f"{path}[{i}]",
                expected="none",
                got=item.name,
                hint=_IGNORABLE,
            )
    return transformers


def _dimension_names(value: Json, rank: int) -> tuple[str | None, ...] | None:
    if value is None:  # null stands for "no names": early releases of zarr-python wrote it
        return None
    path = "$.dimension_names"
    names = _list(value, path)
    if len(names) != rank:  # "an array of strings or null objects with the same length as shape" (core, dimension_names)
        raise _wrong(path, f"{rank} names, one a dimension", value)
    for i, name in enumerate(names):
        if name is not None and not isinstance(name, str):
            raise _wrong(f"{path}[{i}]", "a string or null", name)
    return tuple(names)


def _extra(value: dict[str, Json], known: frozenset[str], group: bool) -> dict[str, Json]:
    extra = {key: item for key, item in value.items() if key not in known}
    # "An implementation MUST fail to open Zarr groups or arrays if any metadata fields are present which (a) the implementation
    # does not recognize and (b) are not explicitly set to "must_understand": false" (core, section must_understand).
    for key, item in extra.items():
        ignorable = isinstance(item, dict) and item.get("must_understand") is False
        # zarr-python up to 3.1.3 wrote "consolidated_metadata": null into groups
        absent = group and key == CONSOLIDATED and item is None
        if not ignorable and not absent:
            raise MetadataError("unknown member", path=member("$", key), expected=sorted(known), got=key, hint=_IGNORABLE)
    return extra
