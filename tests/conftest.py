"""What every test shares: how long hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Machines that run tests are shared: a deadline measures the neighbours, and so does slow generation of data.
COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=50, **COMMON)
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
settings.register_profile("soak", max_examples=300 * max(1, SOAK), **COMMON)
settings.load_profile("soak" if SOAK else "quick")
