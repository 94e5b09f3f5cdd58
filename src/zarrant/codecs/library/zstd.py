"""zstd: Zstandard frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from zarrant import kernels
from zarrant.codecs.configuration import boolean, check_members, integer
from zarrant.codecs.library.compiled import Compiled
from zarrant.codecs.protocols import Step
from zarrant.metadata.v3 import Named


@dataclass(frozen=True, slots=True)
class Zstd(Compiled):
    """Zstandard. `level` -131072..22 (default 0, the library's own default, 3), `checksum` adds 4 bytes a frame.

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zstd

    >>> Zstd(level=1).to_json()["configuration"]
    {'level': 1, 'checksum': False}
    """

    level: int = 0
    checksum: bool = False
    name: ClassVar[str] = "zstd"

    def __post_init__(self) -> None:
        integer(self.level, "level", -131072, 22)
        boolean(self.checksum, "checksum")

    @classmethod
    def from_json(cls, document: Named, path: str) -> Zstd:
        """Read the codec from its name and configuration; `checksum` may be absent, as older writers left it out."""
        check_members(document, path, optional=("level", "checksum"))
        configuration = document.configuration
        return cls(
            integer(configuration.get("level", 0), f"{path}.configuration.level", -131072, 22),
            boolean(configuration.get("checksum", False), f"{path}.configuration.checksum"),
        )

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {"level": self.level, "checksum": self.checksum}}

    def step(self) -> Step:
        """The kernel step."""
        return (kernels.ZSTD, self.level, int(self.checksum))
