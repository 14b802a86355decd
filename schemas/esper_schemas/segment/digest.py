"""The t-digest of a column: quantiles of many values in three kilobytes. See FORMAT.md, Column states.

Dunning and Ertl, "Computing extremely accurate quantiles using t-digests" (2019), as Apache DataSketches implements it.
The rank of a median that is merged from many segments is right to about 2 %.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasketches import tdigest_double
    from numpy.typing import NDArray

K = 200
"""Compression of the digests."""

MIN_VALUES = 1000
"""A column with fewer values has no digest; its rows are as quick to read."""

# Of a digest of two values or more: longs of preamble, version, kind of sketch, k, flags, unused, centroids, buffered
# values, smallest, largest value; then each centroid with its mean and weight.
_PREAMBLE = struct.Struct("<BBBHBHIIdd")
_CENTROID = np.dtype([("mean", "<f8"), ("weight", "<u8")])
_VERSION, _KIND = 1, 20
_REVERSED = 1 << 2  # the only flag of a digest of many values: in which direction it was merged last
_MAX_CENTROIDS = 2 * K + 10


def digest_of(values: NDArray[np.float64]) -> tdigest_double:
    """Return the digest of finite values [rows], whatever their order."""
    from datasketches import tdigest_double

    digest = tdigest_double(K)
    digest.update(np.sort(values))  # twice as fast as unsorted
    digest.compress()  # as it is read back from a file
    return digest


def empty_digest() -> tdigest_double:
    """Return the digest of no values, into which others are merged in the order of their segments."""
    from datasketches import tdigest_double

    return tdigest_double(K)


def median_of(digest: tdigest_double) -> float:
    """Return the approximate median of the values of a digest that is not empty."""
    return float(digest.get_quantile(0.5))


def to_text(digest: tdigest_double) -> str:
    """Return a digest as text: serialised, packed, in Base64."""
    return base64.b64encode(zlib.compress(digest.serialize(), 1)).decode("ascii")


def from_text(text: str, weight: int) -> tdigest_double:
    """Return the digest that a text describes. Nothing unusual reaches the library, since the text may be anybody's.

    Args:
        text: as `to_text` returns it.
        weight: how many values it must be of.

    Raises:
        ValueError: it is not the text of such a digest.
    """
    largest = _PREAMBLE.size + _MAX_CENTROIDS * _CENTROID.itemsize
    try:
        packed = base64.b64decode(text, validate=True)
        data = zlib.decompressobj().decompress(packed, largest + 1)
        longs, version, kind, k, flags, _, centroids, buffered, smallest, greatest = _PREAMBLE.unpack_from(data)
    except (binascii.Error, zlib.error, struct.error) as error:
        raise ValueError(f"it is no digest ({error})") from None
    if (longs, version, kind, k, buffered) != (2, _VERSION, _KIND, K, 0) or flags & ~_REVERSED:
        raise ValueError("it is not a digest of this kind")
    if not 0 < centroids <= _MAX_CENTROIDS or len(data) != _PREAMBLE.size + centroids * _CENTROID.itemsize:
        raise ValueError(f"it has {len(data)} bytes for {centroids} centroids")
    found = np.frombuffer(data, _CENTROID, offset=_PREAMBLE.size)
    means, weights = found["mean"], found["weight"].tolist()  # of so few integers, Python makes an exact sum sooner
    rises = np.count_nonzero(means[1:] >= means[:-1])  # NaN does not rise, so that with the ends all are finite
    is_bounded = math.isfinite(smallest) and math.isfinite(greatest) and smallest <= means[0] <= means[-1] <= greatest
    if rises < centroids - 1 or not is_bounded:
        raise ValueError("its centroids do not rise from its smallest to its largest value")
    if min(weights) < 1 or sum(weights) != weight:
        raise ValueError(f"it is not of {weight} values")
    from datasketches import tdigest_double

    return tdigest_double.deserialize(data)
