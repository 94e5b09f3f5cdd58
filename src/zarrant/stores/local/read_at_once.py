"""The usual read of objects, all of its file calls made by one compiled call.

In: paths, and which ranges, of which version or of how many bytes at most. Out: for each its blob, or None where there is no file;
`OTHERWISE` where it was not read: then the general way (`stores.local.objects`) does it, and finds the error where there is one.

It makes the same file calls in the same order as the general way, of which a test makes sure; of several files, up to 64 are open
at once. What is not so goes the general way: links, what is no file, a file that is too large, of another version, or shorter than
it said, an error of any call, stores that go around the page cache, and every `Syscalls` but the real one.

Files in memory are read without giving the GIL away, where they are small: that takes less time than threads take to hand it on.
Where they are large they are read into memory that was used before (`codecs.buffer_pool`): new pages cost more than the copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol, TypeAlias

from zarrant import kernels
from zarrant.codecs.buffer_pool import lent
from zarrant.storage import Blob, ByteRange, FileDecoder, ShareWork, Version
from zarrant.stores.local.direct_io import DirectIO
from zarrant.stores.local.syscalls import Syscalls, are_plain
from zarrant.stores.local.temp_files import FileVersion, is_file_version, version_here, version_seen


class _Otherwise(Enum):
    OTHERWISE = 1


OTHERWISE = _Otherwise.OTHERWISE
"""It was not read."""

ReadAtOnce: TypeAlias = Blob | _Otherwise | None


class Directory(Protocol):
    """What is asked of the objects below a directory."""

    files: Syscalls
    direct: DirectIO | None
    in_memory: bool
    """Whether the last file that was read lies in memory."""


def can_read_at_once(store: Directory) -> bool:
    """Whether a store reads this way at all."""
    return kernels.read_files is not None and store.direct is None and are_plain(store.files)


def read_whole(store: Directory, paths: list[str], limit: int | None) -> list[ReadAtOnce]:
    """Whole files."""
    assert kernels.read_files is not None, "looked at by `can_read_at_once`"
    before = store.files.now()
    most = -1 if limit is None else limit  # safety: object size at once
    found = kernels.read_files(paths, most, store.in_memory, lent, None)
    return _blobs(store, [each and ((each[0],), each[1]) for each in found], before)


def read_decoded(store: Directory, paths: list[str], limit: int | None, decoder: FileDecoder, share: ShareWork) -> list[ReadAtOnce]:
    """Whole files, decoded by as many threads as are of use; their blobs have no data."""
    before = store.files.now()
    try:
        most = -1 if limit is None else limit  # safety: object size decoded
        reader = decoder.reader(paths, most, store.files.kind)
    except (ValueError, RuntimeError):  # a version of another store, or boxes that are none
        return [OTHERWISE] * len(paths)
    share(reader.work, decoder.threads(len(paths)))
    return _blobs(store, [each and ((), each) for each in reader.versions()], before)


def _blobs(store: Directory, found: Sequence[Any], before: int) -> list[ReadAtOnce]:
    """For each its blob: of (data, version); None for False, and `OTHERWISE` for None."""
    blobs: list[ReadAtOnce] = []
    device, kind = -1, ""
    for each in found:
        if not each:
            blobs.append(None if each is False else OTHERWISE)
            continue
        data, version = each
        if version[0] != device:
            device = version[0]
            kind = store.files.kind(device)
        blobs.append(Blob(data, version_here(version, before) if kind else version, version[3]))
    if device >= 0:
        store.in_memory = kind == "memory"
    return blobs


def read_into(store: Directory, path: str, into: memoryview) -> Blob | _Otherwise | None:
    """A whole file into an array of as many bytes; its blob has no data then."""
    assert kernels.read_into is not None, "looked at by `can_read_at_once`"
    before = store.files.now()
    found = kernels.read_into(path, into, None)
    return _blob(store, (), found, before) if found else (None if found is False else OTHERWISE)


def read_parts(store: Directory, path: str, ranges: Sequence[ByteRange], if_version: Version) -> Blob | _Otherwise | None:
    """Ranges of a file."""
    assert kernels.read_ranges is not None, "looked at by `can_read_at_once`"
    if if_version is not None and not is_file_version(if_version):
        return OTHERWISE
    before = store.files.now()
    wanted = if_version  # safety: version of a read at once
    try:
        found = kernels.read_ranges(path, ranges, wanted, store.in_memory, lent, None)
    except (ValueError, RuntimeError):  # a version of another store, or ranges that are none
        return OTHERWISE
    if not found:
        return None if found is False and if_version is None else OTHERWISE
    return _blob(store, tuple(found[0]), found[1], before)


def _blob(store: Directory, data: tuple[memoryview, ...], version: FileVersion, before: int) -> Blob:
    """See `temp_files.version_seen`; `before`: a moment before the file was opened."""
    store.in_memory = store.files.kind(version[0]) == "memory"
    return Blob(data, version_seen(store.files, version, before), version[3])
