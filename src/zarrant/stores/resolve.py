"""What a user may call a store: a path, a URL, a dict, or a store.

In: that, and options. Out: the store, and the prefix below which its keys lie ("" or ending with "/"). Opening does no I/O
but a look at whether a directory is one. Unknown schemes and options are errors: a misspelt safety option is not ignored.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from inspect import signature
from typing import Any, NamedTuple

from zarrant import extensions
from zarrant.errors import OptionError, UnknownExtensionError, did_you_mean
from zarrant.storage import capabilities
from zarrant.stores.keys import check_key
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.objects import forks  # noqa: F401 - from now on it watches forks
from zarrant.stores.objects.recognize import is_object_store

_OPTIONS = tuple(name for name in signature(FilesystemStore).parameters if name not in ("root", "syscalls"))
ARCHIVES = (".zip", ".ozx")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_PATHS = (str, os.PathLike)
_CHAINED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)::[A-Za-z].*://")


class Resolved(NamedTuple):
    """A store and the prefix of its keys."""

    store: Any
    prefix: str


def resolve_store(
    target: object, storage_options: Mapping[str, Any] | None = None, file_options: Mapping[str, Any] | None = None
) -> Resolved:
    """The store that `target` means; `file_options` are defaults for directories, which other stores have no use for.

    A path (str or Path) or `file://` URL is a directory, with the options of `FilesystemStore`; if it ends with `.zip` or `.ozx`
    and is no directory, it is an archive that is read, with the options of `ZipStore`. So is a URL of any other scheme that
    ends like that. `zip://prefix/inside::URL or path` is an archive of any name. `memory://name/prefix` is the store of this
    process that goes by the name. `s3://`, `gs://`, `az://` and `http(s)://` are object stores, with the options of obstore; an
    object of obstore, or with the methods of obspec, is one too. Schemes that are not ours are those of fsspec, where it is
    installed; its mappers are taken too, and stores of zarr-python (`zarr_store.from_zarr`). A dict holds the objects. An object
    with `get` or `put` is a store.

    >>> resolve_store("memory://example/a/b").prefix
    'a/b/'
    """
    options = dict(storage_options or {})
    if isinstance(target, str) and (match := _CHAINED.match(target)):
        return _from_url(target, match[1].lower(), options, file_options or {})
    if isinstance(target, str) and (match := _SCHEME.match(target)):
        if target.lower().endswith(ARCHIVES) and match[1].lower() not in ("zip", "file"):
            return Resolved(_archive(target, options), "")
        return _from_url(target, match[1].lower(), options, file_options or {})
    if isinstance(target, _PATHS):  # "~" as in a shell; a directory of that name is "./~"
        return _directory(os.path.expanduser(target), options, file_options or {})
    _refuse(options, target, known=())
    theirs = sys.modules.get("zarr.abc.store")  # who has a store of zarr-python has imported it
    if theirs is not None and isinstance(target, theirs.Store):
        from zarrant.stores.zarr_store import from_zarr

        return Resolved(from_zarr(target), "")
    if is_object_store(target):
        from zarrant.stores.object_store import ObjectStore  # imports asyncio, which files do not need

        return Resolved(ObjectStore(target), "")
    can = capabilities(target)
    if can.get or can.put:  # a protocol check would pass over methods that `__getattr__` gives, from Python 3.12 on
        return Resolved(target, "")
    if isinstance(target, dict):
        return Resolved(MemoryStore(target), "")
    if all(hasattr(target, name) for name in ("fs", "root", "dirfs")):  # a mapper of fsspec
        from zarrant.stores.fsspec_store import from_mapper

        return Resolved(from_mapper(target), "")
    raise _no_store(target)


def _no_store(target: object) -> OptionError:
    if isinstance(getattr(target, "store", None), str | os.PathLike):
        hint = "Give the adapter a store: resolve_store(address).store (zarrant.stores)"
        return OptionError("an adapter around an address", field="store", expected="a store inside", got=repr(target), hint=hint)
    return OptionError(
        "not a store",
        field="store",
        expected="a path, a URL, a dict, or an object with the methods of a store",
        got=type(target).__name__,
        # Its own kind of store may be shared with other processes, which MemoryStore cannot guard against.
        hint="MemoryStore(mapping) keeps objects in a mapping that is not a dict" if isinstance(target, Mapping) else None,
    )


def _from_url(url: str, scheme: str, options: dict[str, Any], file_options: Mapping[str, Any]) -> Resolved:
    try:
        found = extensions.stores.resolve(scheme)
    except UnknownExtensionError as error:
        from zarrant.stores import fsspec_store

        if fsspec_store.knows(scheme):
            return Resolved(fsspec_store.from_url(url, options), "")
        known = ", ".join(f"{name}://" for name in extensions.stores.names())
        message, got = "unknown kind of store", f"{scheme}://"
        raise OptionError(message, field="store", expected=known, got=got, hint=error.hint) from error.__cause__
    made = found.from_url(url, options, file_options) if found is FileUrl else found.from_url(url, options)
    return Resolved(*made) if isinstance(made, tuple) else Resolved(made, "")


class FileUrl:
    """`file:///path`: a directory of this machine."""

    @staticmethod
    def from_url(url: str, options: Mapping[str, Any], file_options: Mapping[str, Any] | None = None) -> Resolved:
        """The store of a URL."""
        host, path = _plain_url(url)
        if host not in ("", "localhost") or not path:
            raise OptionError("a file URL of another machine, or of no path", field="store", expected="file:///path", got=url)
        return _directory(path, options, file_options or {})


class MemoryUrl:
    """`memory://name/prefix`: the store of this process that goes by the name."""

    @staticmethod
    def from_url(url: str, options: Mapping[str, Any]) -> Resolved:
        """The store of a URL."""
        name, path = _plain_url(url)
        _refuse(options, url, known=())
        prefix = path.strip("/")
        if not name:
            raise OptionError("a memory URL without a name", field="store", expected="memory://name", got=url)
        if prefix:
            check_key(prefix, url)
        return Resolved(MemoryStore.named(name), f"{prefix}/" if prefix else "")


def _plain_url(url: str) -> tuple[str, str]:
    """Host and path of a URL that has nothing else."""
    from urllib.parse import unquote, urlsplit  # takes 2 ms, and paths do not need it

    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise OptionError("a URL with more than a path", field="store", expected=f"{parts.scheme}://…", got=url)
    return parts.netloc, unquote(parts.path)


class ZipUrl:
    """`zip://prefix/inside::path or URL`, or `zip://path`: a zip archive that is read, whatever its name."""

    @staticmethod
    def from_url(url: str, options: Mapping[str, Any]) -> Resolved:
        """The store of a URL."""
        inside, chained, archive = url.partition("://")[2].partition("::")
        if not chained:
            inside, archive = "", inside
        prefix = inside.strip("/")
        if prefix:
            check_key(prefix, url)
        return Resolved(_archive(archive, options), f"{prefix}/" if prefix else "")


def _archive(target: str, options: Mapping[str, Any]) -> Any:
    """An archive at a path, or below the URL of any store; `options` are those of the archive, and of that store."""
    from zarrant.stores.zip_store import ZipStore

    of_archive = {name: value for name, value in options.items() if name == "duplicates"}
    others = {name: value for name, value in options.items() if name != "duplicates"}
    if not (match := _SCHEME.match(target)) or match[1].lower() == "file":
        _refuse(others, target, known=("duplicates",))
        path = _plain_url(target)[1] if match else target
        if not path:
            raise OptionError("an empty path", field="store", expected="an archive", got=repr(target))
        return ZipStore(path, **of_archive)
    from urllib.parse import unquote

    above, _, name = target.rpartition("/")
    store, prefix = resolve_store(above, others)
    return ZipStore(store, key=prefix + unquote(name), **of_archive)


def _directory(path: str | os.PathLike[str], options: Mapping[str, Any], file_options: Mapping[str, Any]) -> Resolved:
    path = os.fspath(path)
    if path[-4:].lower() in ARCHIVES and not os.path.isdir(path):
        return Resolved(_archive(path, options), "")
    if options:
        _refuse(options, path, known=_OPTIONS)
    if not path:
        raise OptionError("an empty path", field="store", expected="a directory", got=repr(path))
    return Resolved(FilesystemStore(path, **{**file_options, **options}), "")


def _refuse(options: Mapping[str, Any], target: object, known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise OptionError(
                "unknown storage option",
                store=str(target) if isinstance(target, str | os.PathLike) else type(target).__name__,
                field=str(name),
                expected=", ".join(known) or "no options",
                hint=did_you_mean(name, known),
            )
