"""The figures to reach: how many times faster than the fastest other library, by workload and phase.

Only ratios of one run say something, so only ratios are goals. A row without a goal is there to be seen.
"""

from __future__ import annotations

GOALS: dict[tuple[str, str], float] = {
    ("raw", "write"): 1.8,
    ("raw", "read"): 3.0,
    ("zstd", "write"): 1.15,
    ("zstd", "read"): 1.5,
    ("gzip", "write"): 1.3,
    ("gzip", "read"): 2.0,
    ("blosc", "write"): 1.3,
    ("blosc", "read"): 1.7,
    ("sharded-blosc-32", "write"): 1.3,
    ("sharded-blosc-32", "read"): 3.5,
    ("sharded-zstd-32", "write"): 1.2,
    ("sharded-zstd-32", "read"): 3.5,
    ("sharded-zstd-16", "write"): 2.2,
    ("sharded-zstd-16", "read"): 2.5,
    ("sharded-zstd-8", "write"): 2.0,
    ("sharded-zstd-8", "read"): 2.5,
    ("updates-aligned", "update"): 2.0,
    ("append", "append"): 1.2,
    ("tiny", "all"): 1.0,
    ("chunk-whole", "write"): 1.2,
    ("chunk-whole", "read"): 1.5,
    ("chunk-part", "write"): 0.8,
    ("chunk-part", "read"): 1.5,
    ("subchunks", "warm"): 1.3,
    ("crops", "warm"): 1.2,
    ("crops-sharded-32", "warm"): 1.2,
    ("crops-sharded-8", "warm"): 1.2,
    ("fortran", "write"): 1.2,
    ("fortran-sharded", "write"): 1.2,
    ("big-endian", "write"): 1.1,
    ("big-endian", "read"): 1.1,
    ("big-endian-sharded", "write"): 1.1,
    ("big-endian-sharded", "read"): 1.1,
    ("files", "write"): 1.0,
    ("files", "rewrite"): 1.0,
    ("files", "read"): 1.3,
    ("contended", "update"): 1.0,
}
