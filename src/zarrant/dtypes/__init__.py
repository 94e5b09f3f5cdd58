"""Data types: one class and one table a family, and fill values that know their element, their JSON form and what equals them."""

from zarrant.dtypes.base import DataType, Fill, FixedFill
from zarrant.dtypes.fixed import FixedType, from_numpy, parse_data_type

__all__ = ["DataType", "Fill", "FixedFill", "FixedType", "from_numpy", "parse_data_type"]
