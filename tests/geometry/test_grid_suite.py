"""The regular grid keeps what every grid promises."""

from __future__ import annotations

from zarrant.testkit import ChunkGridSuite


class TestRegular(ChunkGridSuite):
    name, configuration, shape = "regular", {"chunk_shape": [3, 4]}, (20, 9)
    wrong = ({"testkit": 1}, [], {"chunk_shape": [0, 1]}, {"chunk_shape": [1]}, {"chunk_shape": "3"})


class TestOneDimension(ChunkGridSuite):
    name, configuration, shape = "regular", {"chunk_shape": [7]}, (21,)
