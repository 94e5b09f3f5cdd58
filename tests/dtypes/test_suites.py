"""Every family of data types keeps what every data type promises: the suite of the test kit."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

import zarrant
from zarrant.dtypes import from_numpy
from zarrant.dtypes.fixed import parse_data_type
from zarrant.testkit import DataTypeSuite


class Family(DataTypeSuite):
    dtype: Any

    @pytest.fixture
    def data_type(self) -> Any:
        return from_numpy(self.dtype)


class TestDatetimes(Family):
    dtype = "M8[10us]"
    elements = np.array([0, 5, -7], "M8[10us]")


class TestDurations(Family):
    dtype = "m8[h]"
    elements = np.array([0, 5, -7], "m8[h]")


class TestFixedText(Family):
    dtype = "U3"
    elements = np.array(["", "añ🎈", "b"], "U3")


class TestFixedBytes(Family):
    dtype = "S3"
    elements = np.array([b"", b"a\0b", b"\xff"], "S3")


class TestText(Family):
    dtype = "string"
    elements = np.array(["", "longer than fifteen bytes", "b"], np.dtypes.StringDType())


class TestBytes(Family):
    dtype = "bytes"
    elements = np.array([b"", b"a\0b", b"\xff" * 20], object)


class TestRecords(Family):
    dtype: ClassVar[Any] = [("a", "u1"), ("p", [("x", "f4"), ("t", "M8[s]")]), ("s", "U2")]
    elements = np.array([(1, (0.5, 3), "a"), (2, (0, 3), ""), (1, (0.5, 3), "b")], dtype)


class TestRecordsInTheOtherByteOrder(TestRecords):
    serializer = zarrant.codecs.Bytes("big")


class TestSmallIntegers(Family):
    dtype = "int4"
    elements = np.array([0, -8, 7]).astype(from_numpy("int4").numpy)


class TestSmallFloats(Family):
    dtype = "float8_e4m3"
    elements = np.array([0.5, -8, 7]).astype(from_numpy("float8_e4m3").numpy)


class TestSmallComplex(Family):
    dtype = "complex_float16"
    elements = np.array([(0, 1), (1.5, 2), (0, -1)], parse_data_type("complex_float16").numpy)
