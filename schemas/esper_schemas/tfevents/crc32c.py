"""CRC-32C (Castagnoli) of many records at once, with NumPy.

A CRC is linear: bytes of equally long records are taken column by column, and a long record is cut into rows of equal
length whose checksums are joined afterwards. Source of the polynomial: RFC 3720, appendix B.4; of the mask:
TensorFlow's `crc32c.h`.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

Crcs = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # reversed
_MASK_DELTA = 0xA282EAD8
_LANES = 4  # bytes that one step takes

_MANY_COLUMNS = 512
"""A record longer than this is cut into rows."""


def _table() -> Crcs:
    crcs = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crcs = np.where(crcs & 1, (crcs >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), crcs >> np.uint32(1))
    return crcs


def _tables() -> list[Crcs]:
    """Tables of one byte followed by 0, 1, 2 and 3 zero bytes."""
    tables = [_table()]
    for _ in range(_LANES - 1):
        last = tables[-1]
        tables.append((last >> np.uint32(8)) ^ tables[0][last & np.uint32(0xFF)])
    return tables


_TABLES = _tables()


def crc32c(records: NDArray[np.uint8]) -> Crcs:
    """Return the CRC-32C of each row of an array of shape (records, bytes)."""
    count, length = records.shape
    if length > _MANY_COLUMNS and count * _MANY_COLUMNS < length:
        return np.array([_of_long(record) for record in records], dtype=np.uint32)
    return _raw(records, np.uint32(0xFFFFFFFF)) ^ np.uint32(0xFFFFFFFF)


def masked(crcs: Crcs) -> Crcs:
    """Return checksums as TFRecord files store them: rotated, and moved by a constant."""
    return ((crcs >> np.uint32(15)) | (crcs << np.uint32(17))) + np.uint32(_MASK_DELTA)


def _raw(records: NDArray[np.uint8], start: np.uint32) -> Crcs:
    """The state of the CRC behind each row, which began with `start`."""
    count, length = records.shape
    columns = np.ascontiguousarray(records.T)
    crcs = np.full(count, start, dtype=np.uint32)
    whole = length - length % _LANES
    for place in range(0, whole, _LANES):
        mixed = np.zeros(count, dtype=np.uint32)
        for lane in range(_LANES):
            byte = columns[place + lane] ^ ((crcs >> np.uint32(8 * lane)) & np.uint32(0xFF))
            mixed ^= _TABLES[_LANES - 1 - lane][byte]
        crcs = mixed
    for place in range(whole, length):
        crcs = (crcs >> np.uint32(8)) ^ _TABLES[0][(crcs ^ columns[place]) & np.uint32(0xFF)]
    return crcs


def _of_long(record: NDArray[np.uint8]) -> int:
    """The CRC of one long record, by rows whose states are joined two by two.

    To begin with ones is the same as to invert the first four bytes, and zeros in front of a record change nothing.
    """
    rows = 1 << max(0, int(len(record) // _MANY_COLUMNS).bit_length() - 1)
    width = -(-len(record) // rows)
    padded = np.zeros(rows * width, dtype=np.uint8)
    padded[-len(record) :] = record
    padded[len(padded) - len(record) :][:4] ^= 0xFF
    crcs = _raw(padded.reshape(rows, width), np.uint32(0))
    while len(crcs) > 1:
        crcs = _shifted(crcs[0::2], width) ^ crcs[1::2]
        width *= 2
    return int(crcs[0]) ^ 0xFFFFFFFF


def _shifted(crcs: Crcs, zeros: int) -> Crcs:
    """The states of the CRC after so many more zero bytes."""
    made = np.zeros(len(crcs), dtype=np.uint32)
    for lane, table in enumerate(_shift_tables(zeros)):
        made ^= table[(crcs >> np.uint32(8 * lane)) & np.uint32(0xFF)]
    return made


@cache
def _shift_tables(zeros: int) -> tuple[Crcs, ...]:
    """For each byte of a state, what it becomes after so many zero bytes: squares and products of a linear map."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    one_byte = (bits >> np.uint32(8)) ^ _TABLES[0][bits & np.uint32(0xFF)]
    made, power = bits, one_byte
    while zeros:
        if zeros & 1:
            made = _applied(power, made)
        power = _applied(power, power)
        zeros >>= 1
    every = np.arange(256, dtype=np.uint32)
    return tuple(_applied(made, every << np.uint32(8 * lane)) for lane in range(4))


def _applied(image_of_bits: Crcs, states: Crcs) -> Crcs:
    """Apply a linear map, given by what each of the 32 bits becomes, to states."""
    made = np.zeros(len(states), dtype=np.uint32)
    for bit in range(32):
        made ^= np.where((states >> np.uint32(bit)) & np.uint32(1), image_of_bits[bit], np.uint32(0))
    return cast("Crcs", made)
