"""Moments and durations: units are kept, and no time is cut off."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from zarrant.dtypes.fixed import from_numpy, parse_data_type
from zarrant.errors import DataTypeError, LimitError, MetadataError

NAT = -(2**63)
SECONDS = from_numpy("M8[s]")
HOURS = from_numpy("m8[h]")


def named(name: str, unit: str, scale: int = 1) -> dict[str, Any]:
    return {"name": name, "configuration": {"unit": unit, "scale_factor": scale}}


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic"])
@pytest.mark.parametrize(("kind", "name"), [("M", "numpy.datetime64"), ("m", "numpy.timedelta64")])
def test_units_go_through_json(kind: str, name: str, unit: str) -> None:
    for scale in (1, 10, 2**31 - 1):
        data_type = parse_data_type(name, {"unit": unit, "scale_factor": scale})
        assert data_type == from_numpy(np.dtype(f"{kind}8[{scale}{unit}]")) == from_numpy(data_type.numpy.newbyteorder())
        assert data_type.to_json() == named(name, unit, scale)
        assert (data_type.itemsize, data_type.word) == (8, 8)


def test_two_spellings_of_microseconds() -> None:
    data_type = parse_data_type("numpy.datetime64", {"unit": "μs", "scale_factor": 1})
    assert data_type == from_numpy("M8[us]")
    assert data_type.to_json() == named("numpy.datetime64", "us")


@pytest.mark.parametrize(("value", "count"), [("NaT", NAT), (NAT, NAT), (0, 0), (-5, -5), (2**63 - 1, 2**63 - 1)])
def test_fills(value: Any, count: int) -> None:
    fill = SECONDS.fill_from_json(value)
    assert fill.element.astype(np.int64) == count
    assert fill.to_json() == ("NaT" if count == NAT else count)
    assert SECONDS.fill_from_python(fill.scalar) == SECONDS.fill_from_python(count) == fill


def test_fills_from_python() -> None:
    noon = SECONDS.fill_from_json(43200)
    for value in (dt.datetime(1970, 1, 1, 12), np.datetime64("1970-01-01T12", "h"), "1970-01-01T12:00", np.array(43200, "M8[s]")):
        assert SECONDS.fill_from_python(value) == noon, value
    assert HOURS.fill_from_python(dt.timedelta(hours=2)).to_json() == 2
    assert SECONDS.fill_from_python(None) == SECONDS.fill_from_python("NaT") == SECONDS.default_fill()
    assert np.isnat(SECONDS.default_fill().scalar)
    for wrong in (1.5, "noon", b"x", [1], np.timedelta64(1, "s"), np.datetime64(1500, "ms"), 2**63, np.ma.masked, True):
        with pytest.raises(DataTypeError) as caught:
            SECONDS.fill_from_python(wrong)
        assert caught.value.field == "fill_value"


@pytest.mark.parametrize("value", [None, 1.5, 1.0, True, "nat", "2020-01-01", 2**63, NAT - 1, [0], {}])
def test_fills_that_are_refused(value: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        SECONDS.fill_from_json(value)
    assert caught.value.path == "$.fill_value"


BAD: list[tuple[Any, str, type[Exception]]] = [
    ({}, "", MetadataError),
    ({"unit": "s"}, "", MetadataError),
    ({"scale_factor": 1}, "", MetadataError),
    ({"unit": "s", "scale_factor": 1, "zone": "UTC"}, "", MetadataError),
    ({"unit": "second", "scale_factor": 1}, ".unit", MetadataError),
    ({"unit": "", "scale_factor": 1}, ".unit", MetadataError),
    ({"unit": None, "scale_factor": 1}, ".unit", MetadataError),
    ({"unit": ["s"], "scale_factor": 1}, ".unit", MetadataError),
    ({"unit": "s", "scale_factor": 0}, ".scale_factor", MetadataError),
    ({"unit": "s", "scale_factor": -1}, ".scale_factor", MetadataError),
    ({"unit": "s", "scale_factor": 1.0}, ".scale_factor", MetadataError),
    ({"unit": "s", "scale_factor": True}, ".scale_factor", MetadataError),
    ({"unit": "s", "scale_factor": "1"}, ".scale_factor", MetadataError),
    ({"unit": "s", "scale_factor": 2**31}, ".scale_factor", LimitError),
]


@pytest.mark.parametrize(("configuration", "where", "error"), BAD, ids=str)
@pytest.mark.parametrize("name", ["numpy.datetime64", "numpy.timedelta64"])
def test_configurations_that_are_refused(name: str, configuration: Any, where: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parse_data_type(name, configuration)
    assert type(caught.value) is error
    assert caught.value.path == f"$.data_type.configuration{where}"  # type: ignore[attr-defined]


def taken(data_type: Any, data: Any) -> Any:
    values = data_type.as_values(data, data_type.default_fill())
    assert values.dtype == data_type.numpy
    return values


def test_values_of_other_units_are_taken_where_they_are_exact() -> None:
    given = np.array(["2020-01-01T00:00:01", "NaT"], "M8[ns]")
    assert taken(SECONDS, given).tolist() == given.astype("M8[s]").tolist()
    assert taken(SECONDS, given.astype(">M8[ns]")).tolist() == given.astype("M8[s]").tolist()
    days = taken(SECONDS, ["2020-01-01", dt.datetime(2021, 1, 1)]).astype("M8[D]")
    assert days.astype(str).tolist() == ["2020-01-01", "2021-01-01"]
    assert taken(HOURS, dt.timedelta(days=1)) == np.timedelta64(24, "h")
    assert taken(SECONDS, []).shape == (0,)
    same = np.array([1, 2], "M8[s]")
    assert taken(SECONDS, same) is same
    masked = np.ma.masked_array(same, mask=[0, 1])
    assert np.isnat(taken(SECONDS, masked)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("M8[s]", np.array(["2020-01-01T00:00:00.5"], "M8[ms]")),
        ("M8[ns]", np.array(["3000-01-01"], "M8[D]")),
        ("M8[ns]", np.array([2**62], "M8[s]")),
        ("M8[10s]", np.array([15], "M8[s]")),
        ("m8[D]", np.array([1], "m8[h]")),
        ("m8[D]", np.array([1], "m8[Y]")),
        ("M8[s]", np.array([1])),
        ("M8[s]", np.array([1.5])),
        ("M8[s]", 5),
        ("M8[s]", np.array([1], "m8[s]")),
        ("m8[s]", np.array([1], "M8[s]")),
        ("M8[s]", ["yesterday"]),
        ("M8[s]", [dt.datetime(2020, 1, 1), 5]),
        ("M8[s]", [b"2020"]),
        ("M8[s]", [object()]),
        ("M8[s]", dt.datetime(2020, 1, 1, microsecond=1)),
    ],
)
def test_values_that_do_not_fit_are_refused(dtype: str, data: Any) -> None:
    with pytest.raises(DataTypeError):
        taken(from_numpy(dtype), data)
