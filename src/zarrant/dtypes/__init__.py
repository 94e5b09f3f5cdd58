"""Data types: one class and one table a family, and fill values as JSON, as Python scalars and as bytes."""

from zarrant.dtypes.base import DataType, bind
from zarrant.dtypes.fixed import FixedType, from_numpy

__all__ = ["DataType", "FixedType", "bind", "from_numpy"]
