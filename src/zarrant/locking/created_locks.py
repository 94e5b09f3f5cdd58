"""Exclusion by lock files that are created, for file systems without locks: `locking="lockfile"`.

In: the path of the lock file and a deadline. Out: a `CreatedLock`, whose file we made and nobody else could, with the owner's
host, process and time inside; or LockTimeout, which names the owner. It ends by `release`: the file is removed.

That a file is there is all that keeps others out, so that of a killed writer does so until somebody removes it: it is never
taken over, because nobody can tell from here whether a process of another host still lives. Every writer of the store must
use this mode. TensorStore locks the file instead, finds it free, and empties it. Our own mode "os" reads who made it, and waits.
"""

from __future__ import annotations

import os
import time

from zarrant.locking.file_locks import CREATED_HEADER, FileLock, Files

MAX_OWNER_BYTES = 1000
"""Bytes of a lock file that are read to name its owner."""


class CreatedLock(FileLock):
    """One lock file that holds by being there."""

    def __init__(self, files: Files, path: str) -> None:
        super().__init__(files, path)
        self.locks = False

    def _try_lock(self, deadline: float) -> bool:
        try:
            self._adopt(self.files.open(self.path, self.FLAGS | os.O_CREAT | os.O_EXCL), made=True)
        except FileExistsError:
            return False
        try:
            self.files.write_full(self.fd, [CREATED_HEADER, _this_owner().encode()], 0)
        except BaseException:
            self.release()
            raise
        return True

    def _timeout_hint(self) -> str:
        try:
            fd = self.files.open(self.path, self.FLAGS)
        except OSError:
            return "The owner is not known: the file is gone or cannot be read"
        try:
            buffer = memoryview(bytearray(MAX_OWNER_BYTES))
            count = self.files.read_full(fd, buffer, 0)
        except OSError:
            return "The owner is not known: the file cannot be read"
        finally:
            self.files.close(fd)
        owner = " ".join(bytes(buffer[:count]).removeprefix(CREATED_HEADER).decode(errors="replace").split())
        text = f"Its owner is {owner}" if owner.isprintable() and owner else "The file does not say who has locked it"
        return f"{text}. If that process is gone, remove the file"


def _this_owner() -> str:
    import socket  # takes 3 ms, which nobody else needs

    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"host {socket.gethostname()}, process {os.getpid()}, since {began}\n"
