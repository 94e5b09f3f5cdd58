"""Exclusion by lock files that are created, for file systems without locks: `locking="lockfile"`.

In: the path of the lock file and a deadline. Out: a `CreatedLock`, whose file only we could create, with the owner's
host, process and time inside; or LockTimeout, which names the owner. It ends by `release`: the file is removed.

The file itself is the lock. So the file of a killed writer keeps other writers out until a person removes it. It is never taken
over, because a process cannot know whether a process of another host still runs. Every writer of the store must use this mode:
TensorStore would lock the file by the system, succeed, and empty it. Our own mode "os" reads who made the file, and waits.
"""

from __future__ import annotations

import os
import time

from zarrant.locking.file_locks import CREATED_HEADER, FileLock, Files

MAX_OWNER_BYTES = 1000
"""Bytes of a lock file that are read to name its owner."""


class CreatedLock(FileLock):
    """One lock file that counts as locked as long as it exists."""

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
