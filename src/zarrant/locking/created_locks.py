"""Exclusion by lock files that are created, for file systems without locks: `locking="lockfile"`.

In: the path of the lock file and a deadline. Out: a `CreatedLock`, whose file we made and nobody else could, with the holder's
host, process and time inside; or LockTimeout, which names the holder. It ends by `release`: the file is removed.

That a file is there is all that keeps others out, so that of a killed writer does so until somebody removes it: it is never
taken over, because nobody can tell from here whether a process of another host still lives. Every writer of the store must
use this mode. TensorStore locks the file instead, finds it free, and empties it. Our own mode "os" reads who made it, and waits.
"""

from __future__ import annotations

import os
import time

from zarrant.locking.file_locks import CREATED_HEADER, FileLock, Files

MAX_HOLDER_BYTES = 1000
"""Bytes of a lock file that are read to name its holder."""


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
            self.files.write_full(self.fd, [CREATED_HEADER, _holder().encode()], 0)
        except BaseException:
            self.release()
            raise
        return True

    def _timeout_hint(self) -> str:
        try:
            fd = self.files.open(self.path, self.FLAGS)
        except OSError:
            return "The holder is not known: the file is gone or cannot be read"
        try:
            buffer = memoryview(bytearray(MAX_HOLDER_BYTES))
            count = self.files.read_full(fd, buffer, 0)
        except OSError:
            return "The holder is not known: the file cannot be read"
        finally:
            self.files.close(fd)
        holder = " ".join(bytes(buffer[:count]).removeprefix(CREATED_HEADER).decode(errors="replace").split())
        told = f"Its holder is {holder}" if holder.isprintable() and holder else "It does not say who holds it"
        return f"{told}. If that process is gone, remove the file"


def _holder() -> str:
    import socket  # takes 3 ms, which nobody else needs

    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"host {socket.gethostname()}, process {os.getpid()}, since {began}\n"
