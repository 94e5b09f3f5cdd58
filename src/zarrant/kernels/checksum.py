"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) in NumPy.

In comes a buffer, out goes the checksum. The data is cut into lines that are reduced side by side, one table look-up a
byte column; the registers of the lines are then folded in pairs. That is a vector operation a column instead of a Python
step a byte.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

# The polynomial of RFC 3720, bits reversed.
_POLYNOMIAL = 0x82F63B78
# Bytes of a line: a power of two, so that the operator for one line is the one for a byte, squared six times.
_LINE = 64


def crc32c(data: Any, value: int = 0) -> int:
    """Return the CRC-32C of `data`, continuing from the checksum `value` of what came before.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    octets = np.frombuffer(memoryview(data).cast("B"), np.uint8)
    register = value ^ 0xFFFFFFFF
    if octets.size < _LINE:
        table = _table().tolist()
        for octet in octets.tolist():
            register = table[(register ^ octet) & 255] ^ (register >> 8)
        return int(register ^ 0xFFFFFFFF)
    # A register that starts at zero ignores leading zeros, so padding goes in front; a start value is the same as
    # that value added to the first four bytes.
    count = 1 << (-(-octets.size // _LINE) - 1).bit_length()
    lines = np.zeros(count * _LINE, np.uint8)
    lines[-octets.size :] = octets
    first = lines.size - octets.size
    lines[first : first + 4] ^= np.frombuffer(register.to_bytes(4, "little"), np.uint8)
    return int(_fold(_reduce(lines.reshape(count, _LINE)))) ^ 0xFFFFFFFF


def _reduce(lines: NDArray[np.uint8]) -> Words:
    """Register of each line on its own, started at zero."""
    table = _table()
    registers = np.zeros(len(lines), np.uint32)
    for column in lines.T:
        registers = table[(registers ^ column) & 255] ^ (registers >> 8)
    return registers


def _fold(registers: Words) -> int:
    """Join the registers of neighbouring lines until one is left."""
    level = _LINE.bit_length() - 1
    while len(registers) > 1:
        registers = _advance(_operator(level), registers[0::2]) ^ registers[1::2]
        level += 1
    return int(registers[0])


@lru_cache(maxsize=1)
def _table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ _POLYNOMIAL, table >> 1).astype(np.uint32)
    return table


@lru_cache(maxsize=sys.maxsize.bit_length())
def _operator(level: int) -> Words:
    """What each of the 32 register bits becomes after 2**level zero bytes."""
    if level == 0:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        ahead: Words = _table()[bits & 255] ^ (bits >> 8)
        return ahead
    half = _operator(level - 1)
    return _advance(half, half)


def _advance(operator: Words, registers: Words) -> Words:
    result = np.zeros_like(registers)
    for bit in range(32):
        result ^= np.where((registers >> bit) & 1, operator[bit], 0).astype(np.uint32)
    return result
