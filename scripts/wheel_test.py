"""What a wheel must do where nothing but it is installed: every kernel compiled, libraries and licences inside, values kept."""

from __future__ import annotations

import tempfile
from importlib.metadata import files
from pathlib import Path

import numpy as np

import zarrant
from zarrant import codecs, kernels

# Snappy inside Blosc is in no wheel, nor in those of numcodecs.
assert kernels.missing().keys() <= {"step:blosc:snappy"}, kernels.missing()
libraries = kernels.libraries()
assert len(libraries) == 3 and all("built in" in version for version in libraries.values()), libraries
licences = {path.name for path in files("zarrant") or [] if "licenses" in path.parts}
assert licences >= {"zstd.txt", "c-blosc.txt", "lz4.txt", "zlib.txt", "libdeflate.txt", "LICENSE-MIT"}, licences

values = np.arange(64**3, dtype=np.uint16).reshape(64, 64, 64)
for codec in (codecs.Zstd(level=1), codecs.Gzip(level=5), codecs.Blosc(cname="zstd"), codecs.Blosc(cname="lz4")):
    with tempfile.TemporaryDirectory() as place:
        made = zarrant.create_array(
            Path(place) / "a", shape=values.shape, dtype="uint16", chunks=(16, 16, 16), shards=(32, 32, 32), compressors=codec
        )
        made.store_array_subset(np.s_[:, :, :], values)
        assert np.array_equal(zarrant.open_array(Path(place) / "a").retrieve_array_subset(np.s_[:, :, :]), values), codec
print(f"zarrant {zarrant.__version__}:", ", ".join(f"{name} {version}" for name, version in libraries.items()))
