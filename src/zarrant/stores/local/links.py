"""Symbolic links in a directory of objects: which are followed.

The rule, for every operation alike:
- Reading follows links: of single files wherever they lead (git-annex, DVC), of directories inside of the store.
- Writing replaces a link by the new object; what it led to stays as it was. Erasing removes the link and nothing behind it.
- A directory that is a link and leads out of the store is followed only with `follow_symlinks=True`; else to read, write, list or
  erase below it is a StoreError, before anything is done. With `follow_symlinks=False` no link of a file may lead out either.
- A link that leads nowhere is no absent object: reading it is a StoreError (its content may only not have been fetched yet).
- The root may be a link itself, or lie below one.

In: paths as the store makes them. Out: nothing, an open descriptor, or the state of what a link leads to. Ordinary stores do not
pay for it: the last part of a path is opened with O_NOFOLLOW, and a directory is looked at when it is first seen and once a
second. A process that can rename directories below the root in that second can lead reads and writes out of the store.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence

from zarrant.errors import OptionError, StoreError
from zarrant.stores.local.syscalls import Syscalls

TRUSTED_S = 1.0
"""Seconds for which a directory is taken for what it was: one `lstat` a second and directory."""
MAX_DIRECTORIES = 1 << 14
"""Directories remembered: what is forgotten costs an `lstat`."""

_OPEN_TARGET = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_ABSENT = (FileNotFoundError, NotADirectoryError)


class Links:
    """What is known of the links below a root."""

    def __init__(self, files: Syscalls, root: str, url: str, follow: bool | str) -> None:
        if not (isinstance(follow, bool) or follow == "files"):
            raise OptionError(
                "unknown follow_symlinks", store=url, field="follow_symlinks", expected='"files", True or False', got=repr(follow)
            )
        self.files, self.root, self.url, self.follow = files, root, url, follow
        self._trusted: dict[str, float] = {}

    def trusts(self, directory: str) -> bool:
        """Whether a directory was looked at a moment ago: it may be entered."""
        return self._trusted.get(directory, 0.0) > time.monotonic()

    def check(self, directory: str, again: bool = False) -> None:
        """StoreError unless a directory below the root may be entered; `again`: looked at, also where it was a moment ago."""
        now, trusted = time.monotonic(), self._trusted
        if not again and self.trusts(directory):
            return
        # Upwards to what is trusted, then down again: a deep tree is not looked at from the top for each of its directories.
        unknown = [directory]
        while (end := unknown[-1].rfind("/")) > 0 and trusted.get(unknown[-1][:end], 0.0) <= now:
            unknown.append(unknown[-1][:end])
        for name in reversed(unknown):
            try:
                state = self.files.stat(f"{self.root}/{name}")
            except _ABSENT:
                return
            if stat.S_ISLNK(state.st_mode):
                self._check_link(name)
            if len(trusted) >= MAX_DIRECTORIES:
                trusted.clear()
            trusted[name] = now + TRUSTED_S

    def trusted_part(self, directory: str) -> str:
        """The part of the name of a directory below the root that was looked at a moment ago, "" for the root."""
        now, trusted = time.monotonic(), self._trusted
        while directory and trusted.get(directory, 0.0) <= now:
            directory = directory[: max(0, directory.rfind("/"))]
        return directory

    def entered(self, directory: str, known: str) -> None:
        """Below `known`, which is trusted, every part of a directory was looked at, or made, a moment ago: it is no link."""
        until, trusted = time.monotonic() + TRUSTED_S, self._trusted
        if len(trusted) >= MAX_DIRECTORIES:
            trusted.clear()
        while len(directory) > len(known):
            trusted[directory] = until
            directory = directory[: max(0, directory.rfind("/"))]

    def directories_made(self, paths: Sequence[str]) -> None:
        """Directories below the root were made a moment ago, the outermost first: they are no links, and may be entered."""
        now, trusted = time.monotonic(), self._trusted
        for path in paths:
            name = path[len(self.root) + 1 :]
            end = name.rfind("/")
            if end > 0 and trusted.get(name[:end], 0.0) <= now:  # safety: made where it was entered
                return
            if len(trusted) >= MAX_DIRECTORIES:
                trusted.clear()
            trusted[name] = now + TRUSTED_S

    def _check_link(self, name: str) -> None:
        target = self.files.real(f"{self.root}/{name}")
        above = [self.files.real(f"{self.root}/{name[:end]}") for end, char in enumerate(name) if char == "/"]
        if target in above or _inside(above[-1] if above else self.files.real(self.root), target):
            raise StoreError("a link that leads back to where it lies", store=self.url, key=name, got=target)
        if self.follow is not True and not _inside(target, self.files.real(self.root)):  # safety: link out
            raise self._leads_out(name, target)

    def _leads_out(self, key: str, target: str) -> StoreError:
        return StoreError(
            "a symbolic link that leads out of the store",
            store=self.url,
            key=key,
            expected=f"something below {self.root}",
            got=target,
            hint='Where you trust the link: storage_options={"follow_symlinks": True}',
        )

    def is_link(self, path: str) -> bool:
        """Whether the last part of a path is a link."""
        try:
            return stat.S_ISLNK(self.files.stat(path).st_mode)
        except _ABSENT:
            return False

    def open(self, path: str) -> int:
        """Open, for reading, the file to which a link leads."""
        if self.follow is False:
            target = self.files.real(path)
            if not _inside(target, self.files.real(self.root)):
                raise self._leads_out(path.removeprefix(f"{self.root}/"), target)
        try:
            return self.files.open(path, _OPEN_TARGET)
        except FileNotFoundError as error:
            raise StoreError(
                "a symbolic link that leads nowhere",
                got=self.files.real(path),
                hint="Its content is not here (git-annex and DataLad fetch it with `get`); writing or erasing removes the link",
            ) from error

    def state(self, path: str) -> os.stat_result | None:
        """The state of an object, or of the file to which its link leads; of the link itself where that is nowhere."""
        try:
            state = self.files.stat(path)
            if not stat.S_ISLNK(state.st_mode):
                return state
        except _ABSENT:
            return None
        try:
            return self.files.stat_target(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            return state

    def kind(self, path: str) -> str:
        """ "dir", "file" or "other": what a link that was found leads to. One that leads nowhere counts as a file."""
        state = self.state(path)
        if state is None:
            return "other"
        if stat.S_ISDIR(state.st_mode):
            return "dir"
        return "file" if stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode) else "other"


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")
