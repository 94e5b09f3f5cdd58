"""What changes of metadata know of the copies in the groups above (`ops/consolidated.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from zarrant.requests import ANY
from zarrant.storage import Version


@dataclass(frozen=True)
class ConsolidationContext:
    """What is known of the groups above, and what the store can do about them."""

    exclusive: bool = True
    """Whether locks keep other writers out."""
    conditional: bool = True
    """Whether the store can replace an object on condition of its version."""
    without: dict[str, Version] = field(default_factory=dict)
    """The versions of groups that were seen to keep no copies, by path."""

    def condition(self, version: Version) -> Version:
        """What a write of that version asks for."""
        return version if self.conditional else ANY
