"""The ZIP format: from the bytes of a central directory to entries, and from entries to bytes.

In: bytes of an archive. Out: `Entry` for each object in it, by key; or `ArchiveError` that says what is wrong. Nothing is read
here, so that all of it can be tested with bytes. No size or offset that an archive states is believed before it was compared
with what surrounds it: entries lie one behind the other before the directory, so that the decoded bytes of an archive are bounded
by its size times what deflate can do at most.

What is written is always ZIP64, in which each size and offset has 64 bits: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zarrant.errors import ArchiveError, LimitError, OptionError
from zarrant.stores.keys import check_key

STORED, DEFLATED = 0, 8
METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
"""The last parts of keys of metadata, which come first in what we write."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
LOCAL_BYTES = _LOCAL.size
MAX_TAIL = _LOCATOR.size + _END64.size + _END.size + 0xFFFF
"""Bytes at the end of an archive in which its end record lies: the comment has at most 65,535."""

MAX_DIRECTORY = 256 << 20
"""Bytes of a central directory: about 3 million entries. Parsed it takes four times as much memory."""

MAX_RATIO, MAX_EXTRA = 1032, 64
"""Deflate makes at most 1,032 bytes of one (https://zlib.net/zlib_tech.html); a few more for what has no bytes to speak of."""

_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED, _UTF8 = 0x1 | 0x40 | 0x2000, 0x800
_ZIP64, _PADDING = 0x0001, 0xD935
_DATE, _MODE, _VERSION, _UNIX = 0x21, 0o100644 << 16, 45, 3
"""1980-01-01, so that equal objects give equal archives; `-rw-r--r--`; ZIP64 needs 4.5 of the format; permissions are Unix's."""


class Entry(NamedTuple):
    """One object: where its local header is, how many bytes it takes there, how many it has, and how it is kept."""

    offset: int
    stored: int
    size: int
    crc: int
    method: int = STORED
    flags: int = _UTF8

    def name(self, key: str) -> bytes:
        """The name as it is in the archive."""
        return key.encode() if self.flags & _UTF8 else key.encode("cp437")


class Ending(NamedTuple):
    """What the end of an archive says: where the directory is, how many entries it has; and the comment."""

    start: int
    length: int
    entries: int
    comment: bytes


def parse_ending(tail: bytes | memoryview, size: int) -> Ending:
    """Find the end record in the last bytes of an archive of `size` bytes."""
    tail = bytes(tail)
    first, at, found = size - len(tail), len(tail), []
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[7] == len(tail):
            found.append(at)
    if len(found) != 1:
        got = "none" if not found else f"{len(found)}: which one counts would depend on who reads it"
        raise ArchiveError("not a zip archive, or one that was cut off", expected="one end record", got=got)
    (at,) = found
    _, disk, first_disk, here, count, length, start, _ = _END.unpack_from(tail, at)
    end = first + at
    comment = tail[at + _END.size :]
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size : at - _LOCATOR.size + 4] == b"PK\6\7":
        disk, first_disk, here, count, length, start, end = _ending64(tail, first, at - _LOCATOR.size)
    if (disk, first_disk) != (0, 0) or here != count:
        raise ArchiveError("an archive in several parts", field="disk", expected=0, got=max(disk, first_disk))
    if length > MAX_DIRECTORY:
        raise LimitError("an archive with too large a directory", field="directory bytes", got=length, limit=MAX_DIRECTORY)
    if start + length != end:
        message = "the directory of the archive is not where its end record says"
        raise ArchiveError(message, field="directory", expected=f"{end} bytes before the end record", got=f"{start} + {length}")
    return Ending(start, length, count, comment)


def _ending64(tail: bytes, first: int, at: int) -> tuple[int, ...]:
    """The fields of the end record of ZIP64, and where it is; its locator is at `at` in the tail."""
    _, disk, start, disks = _LOCATOR.unpack_from(tail, at)
    place = start - first
    if disk or disks > 1:
        raise ArchiveError("an archive in several parts", field="disk", expected=0, got=max(disk, disks - 1))
    if not 0 <= place <= at - _END64.size or tail[place : place + 4] != b"PK\6\6":
        raise ArchiveError("no ZIP64 end record where the archive says", field="ZIP64 locator", got=start)
    record = _END64.unpack_from(tail, place)
    if place + 12 + record[1] != at:
        raise ArchiveError("the ZIP64 end record has a wrong size", field="ZIP64 end record", got=record[1])
    return record[4], record[5], *record[6:], start


def parse_directory(data: bytes | memoryview, ending: Ending, duplicates: str = "error") -> dict[str, Entry | None]:
    """The entries of a central directory by key, without those of directories; None for a name that is there more than once.

    With `duplicates` "last" such a name is the entry that comes last.
    """
    entries: dict[str, Entry | None] = {}
    spans: list[tuple[int, int]] = []
    at = 0
    for _ in range(ending.entries):
        if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\1\2":
            raise ArchiveError("a broken directory", field="directory", expected=f"an entry at byte {at}", got="something else")
        key, entry, length = _central(data, at)
        at += length
        spans.append((entry.offset, entry.offset + LOCAL_BYTES + len(entry.name(key)) + entry.stored))
        if key.endswith("/") and not entry.size:
            continue
        _check_entry(key, entry)
        entries[key] = entry if key not in entries or duplicates == "last" else None
    if at != len(data):
        raise ArchiveError("the directory has more than its entries", field="directory", expected=at, got=len(data))
    _check_spans(spans, ending.start)
    return entries


def _central(data: bytes | memoryview, at: int) -> tuple[str, Entry, int]:
    """(key, entry, bytes taken) of the directory's entry at a place."""
    fields = _CENTRAL.unpack_from(data, at)
    flags, method, crc, stored, size, names, extras, comments, disk = (*fields[3:5], *fields[7:14])
    offset, length = fields[16], _CENTRAL.size + names + extras + comments
    start = at + _CENTRAL.size
    if start + names + extras + comments > len(data):
        raise ArchiveError("a broken directory", field="directory", expected="whole entries", got="one that was cut off")
    raw = bytes(data[start : start + names])
    try:
        key = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as cause:
        raise ArchiveError("a name that is not text", field="name", got=repr(raw)) from cause
    if _FULL32 in (stored, size, offset) or disk == _FULL16:
        extra = bytes(data[start + names : start + names + extras])
        size, stored, offset, disk = _wide(extra, (size, stored, offset), disk, key)
    if disk:
        raise ArchiveError("an archive in several parts", key=key, field="disk", expected=0, got=disk)
    return key, Entry(offset, stored, size, crc, method, flags), length


def _wide(extra: bytes, values: tuple[int, int, int], disk: int, key: str) -> tuple[int, ...]:
    """Size, stored bytes, offset and disk, where what does not fit 32 bits stands in the extra field, in this order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == _ZIP64 and at + length <= len(extra):
            wanted = [value == _FULL32 for value in values]
            if length >= 8 * sum(wanted) + 4 * (disk == _FULL16):
                wide = iter(struct.unpack_from(f"<{sum(wanted)}Q", extra, at))
                found = [next(wide) if is_wide else value for value, is_wide in zip(values, wanted, strict=True)]
                if disk == _FULL16:
                    (disk,) = struct.unpack_from("<I", extra, at + 8 * sum(wanted))
                return (*found, disk)
        at += length
    raise ArchiveError("a size that should be in the ZIP64 field is not", key=key, field="extra field")


def _check_entry(key: str, entry: Entry) -> None:
    """ArchiveError for what no key can be, and for sizes that cannot be true."""
    try:
        check_key(key, "")
    except OptionError as cause:
        message = "a name that leads out of the archive, or is no key"
        raise ArchiveError(message, field="name", expected="relative, without empty, '.' or '..' parts", got=repr(key)) from cause
    if entry.method == STORED and not entry.flags & _ENCRYPTED and entry.stored != entry.size:
        raise ArchiveError("an entry that is not compressed has two sizes", key=key, expected=entry.stored, got=entry.size)
    if entry.method == DEFLATED and entry.size > MAX_RATIO * entry.stored + MAX_EXTRA:
        got, most = f"{entry.size} bytes", f"at most {MAX_RATIO} times the {entry.stored} bytes that it takes"
        raise ArchiveError("an entry that states a size it cannot have", key=key, field="size", expected=most, got=got)


def _check_spans(spans: Sequence[tuple[int, int]], end: int) -> None:
    """ArchiveError where entries overlap, or reach into the directory."""
    if not spans:
        return
    try:
        table = np.array(spans, np.int64)
    except OverflowError as cause:
        raise ArchiveError("an entry that is outside of the archive", field="offset", expected=f"below {end}") from cause
    table = table[np.argsort(table[:, 0], kind="stable")]
    if (table[1:, 0] < table[:-1, 1]).any():
        place = int(table[1:, 0][table[1:, 0] < table[:-1, 1]][0])
        raise ArchiveError("entries that overlap", field="offset", got=place)
    if table[-1, 1] > end:
        raise ArchiveError(
            "an entry that is outside of the archive", field="offset", expected=f"below {end}", got=int(table[-1, 1])
        )


def require_readable(key: str, entry: Entry) -> None:
    """ArchiveError for an entry that cannot be read here."""
    if entry.flags & _ENCRYPTED:
        raise ArchiveError("an encrypted entry", key=key, hint="Unpack the archive, and zip it again without a password")
    if entry.method not in (STORED, DEFLATED):
        message = "an entry that is compressed by another method"
        raise ArchiveError(message, key=key, field="method", expected="stored (0) or deflated (8)", got=entry.method)


def parse_local(data: bytes | memoryview, key: str, entry: Entry) -> int:
    """The bytes between an entry's offset and its data, from its local header (with the name); ArchiveError where that differs."""
    name = entry.name(key)
    fields = _LOCAL.unpack_from(data)
    if fields[0] != b"PK\3\4" or bytes(data[LOCAL_BYTES : LOCAL_BYTES + len(name)]) != name or fields[9] != len(name):
        raise ArchiveError("the local header of an entry is of another one, or of none", key=key, field="local header")
    if fields[3] != entry.method or fields[2] & _ENCRYPTED:
        raise ArchiveError("the local header of an entry tells another method", key=key, expected=entry.method, got=fields[3])
    return LOCAL_BYTES + len(name) + int(fields[10])


def inflate(data: memoryview, key: str, entry: Entry) -> memoryview:
    """The bytes of a deflated entry; never more than it says."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        value = engine.decompress(data, entry.size + 1)
    except zlib.error as cause:
        raise ArchiveError("an entry that cannot be inflated", key=key) from cause
    if len(value) != entry.size or not engine.eof or engine.unused_data:
        got = f"more than {entry.size}" if len(value) > entry.size else len(value)
        raise ArchiveError("an entry has another size than it says", key=key, expected=entry.size, got=got)
    return memoryview(value)


def check_crc(data: memoryview, key: str, entry: Entry) -> None:
    """ArchiveError where the bytes of a whole object are not those that were put into the archive."""
    if (got := zlib.crc32(data)) != entry.crc:
        raise ArchiveError("an entry that is damaged", key=key, field="CRC-32", expected=f"{entry.crc:08x}", got=f"{got:08x}")


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def local_header(key: str, entry: Entry, padding: int = 0) -> bytes:
    """What stands before the data of an entry; `padding` bytes of it (0, or 6 and more) are of no meaning."""
    name, extra = key.encode(), struct.pack("<2H2Q", _ZIP64, 16, entry.size, entry.stored)
    if padding:
        extra += struct.pack("<3H", _PADDING, padding - 4, 1) + bytes(padding - 6)
    head = _LOCAL.pack(
        b"PK\3\4", _VERSION, _UTF8, entry.method, 0, _DATE, entry.crc, _FULL32, _FULL32, len(name), len(extra)
    )  # fmt: skip
    return head + name + extra


def local_size(key: str) -> int:
    """Bytes of a local header without padding."""
    return LOCAL_BYTES + len(key.encode()) + 20


def directory_size(key: str) -> int:
    """Bytes of an entry in the directory."""
    return _CENTRAL.size + len(key.encode()) + 28


def build_directory(entries: Iterable[tuple[str, Entry]], start: int, comment: bytes) -> bytes:
    """The directory, which begins at `start`, and all that follows it."""
    parts, count = [], 0
    for key, entry in entries:
        name, extra = key.encode(), struct.pack("<2H3Q", _ZIP64, 24, entry.size, entry.stored, entry.offset)
        made_by = _UNIX << 8 | _VERSION
        parts.append(
            _CENTRAL.pack(
                b"PK\1\2", made_by, _VERSION, _UTF8, entry.method, 0, _DATE, entry.crc, _FULL32, _FULL32,
                len(name), len(extra), 0, 0, 0, _MODE, _FULL32,
            ) + name + extra
        )  # fmt: skip
        count += 1
    directory = b"".join(parts)
    end = start + len(directory)
    ending64 = _END64.pack(b"PK\6\6", _END64.size - 12, _UNIX << 8 | _VERSION, _VERSION, 0, 0, count, count, len(directory), start)
    locator = _LOCATOR.pack(b"PK\6\7", 0, end, 1)
    few = min(count, _FULL16)
    ending = _END.pack(b"PK\5\6", 0, 0, few, few, min(len(directory), _FULL32), min(start, _FULL32), len(comment))
    return directory + ending64 + locator + ending + comment


def in_order(keys: Iterable[str]) -> list[str]:
    """Keys in the order of OME's RFC-9: each `zarr.json`, that of a group before those in the group; then the other metadata."""

    def place(key: str) -> tuple[bool, int, str, int]:
        node, _, name = key.rpartition("/")
        return name != METADATA[0], node.count("/") + bool(node), node, METADATA.index(name)

    return sorted(keys, key=place)


def is_metadata(key: str) -> bool:
    """Whether a key is that of metadata."""
    return key.rpartition("/")[2] in METADATA


def ome_comment(metadata: Mapping[str, bytes]) -> bytes:
    """What the comment of an archive with an OME-Zarr in it says, by the attributes of its root; nothing for any other."""
    try:
        version = json.loads(metadata["zarr.json"])["attributes"]["ome"]["version"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return b""
    if not isinstance(version, str) or len(version) > 100:
        return b""
    return json.dumps({"ome": {"version": version, "zipFile": {"centralDirectory": {"jsonFirst": True}}}}).encode()
