"""gzip: one gzip member a chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from zarrant import kernels
from zarrant.codecs.configuration import check_members, integer
from zarrant.codecs.library.compiled import Compiled
from zarrant.codecs.protocols import Step
from zarrant.metadata.v3 import Named


@dataclass(frozen=True, slots=True)
class Gzip(Compiled):
    """Gzip (RFC 1952). `level` 0..9, default 5.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/gzip/
    """

    level: int = 5
    name: ClassVar[str] = "gzip"

    def __post_init__(self) -> None:
        integer(self.level, "level", 0, 9)

    @classmethod
    def from_json(cls, document: Named, path: str) -> Gzip:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=("level",))
        return cls(integer(document.configuration.get("level", 5), f"{path}.configuration.level", 0, 9))

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {"level": self.level}}

    def step(self) -> Step:
        """The kernel step."""
        return (kernels.GZIP, self.level)
