"""The shapes of the battery: every size distinct, most of them prime, sets of a given kind."""

from __future__ import annotations

from numpy_norms.oracle.sets import FEATURE_NORMS

__all__ = ["COUNTS", "LENGTHS", "Shape", "shapes", "sized"]

Shape = tuple[tuple[int, ...], int | None]

# At most ten different shapes for each norm, since some kernels are compiled anew for each. Sets of
# 4095 ("few") leave another rest, the largest, with every block of 2 to 2048.
_BATCH = {
    "ordinary": (7, 5, 3, 2),
    "flat": (19, 6),
    "deep": (3, 4, 2, 5, 7),
    "few": (1, 2, 63, 65),
    "pair": (2, 7),
    "long": (13, 3, 5043),
    "many": (2, 65539),
    "tail": (1031, 3),
    "exact": (8, 3, 4),
    "exact_long": (64, 3, 64),
}
_FEATURES = {
    "ordinary": (5, 7, 13),
    "flat": (7, 19),
    "deep": (2, 3, 5, 7, 17),
    "few": (1, 2, 4095),
    "single": (5, 3, 1),
    "pair": (1031, 2),
    "long": (3, 65537),
    "many": (65539, 2),
    "tail": (1031, 2),
    "exact": (3, 7, 32),
    "exact_long": (3, 4096),
}
_GROUP = {
    "ordinary": ((3, 10, 7, 2), 2),
    "flat": ((7, 6), 3),
    "deep": ((2, 12, 3, 5, 7), 3),
    "few": ((1, 10, 39, 21), 2),
    "single": ((5, 3, 1), 3),
    "pair": ((7, 6), 3),
    "long": ((2, 6, 21846), 2),
    "many": ((257, 257, 2), 257),
    "tail": ((1031, 6, 2), 3),
    "exact": ((3, 8, 4, 2), 2),
    "exact_long": ((3, 8, 1024), 2),
}
_INSTANCE = {
    "ordinary": (3, 5, 7, 2),
    "flat": (7, 4, 19),
    "deep": (3, 4, 2, 5, 7),
    "few": (1, 2, 63, 65),
    "pair": (5, 7, 2),
    "long": (2, 3, 65537),
    "many": (257, 257, 2),
    "tail": (1031, 3, 5),
    "exact": (3, 5, 8, 4),
    "exact_long": (3, 2, 4096),
}
# What kernels are compiled for, their neighbours, and where block and grid sizes end.
_POWERS = (32, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
LENGTHS = (1, 2, 3, 4, 768, *(n + off for n in _POWERS for off in (-1, 0, 1)))
COUNTS = (2, 31, 32, 33, 128, 129, 192, 193, 256, 257, 1024, 1025, 65535, 65536, 100_000)


def sized(norm: str, length: int, count: int, features: int = 1) -> Shape:
    """Return the shape of `count` rows or samples, with sets of about `length` values each."""
    if norm in FEATURE_NORMS:
        return _split((count, length), features), None
    if norm == "group_norm":
        return ((count, 4, -(-length // 2)), 2) if length > 1 else ((count, 2, 1), 2)
    if norm == "batch_norm":
        return (count, 3, -(-length // count)), None
    return (count, 3, length), None


def shapes(norm: str, features: int = 1) -> dict[str, Shape]:
    """Return the shape of `x`, channels second or features last, and the groups, by their kind.

    Parameters
    ----------
    norm : str
    features : int, default 1
        The number of normalized axes of a layer or RMS norm; the last size is split among them.
    """
    if norm == "group_norm":
        return dict(_GROUP)
    if norm in FEATURE_NORMS:
        return {kind: (_split(shape, features), None) for kind, shape in _FEATURES.items()}
    table = _BATCH if norm == "batch_norm" else _INSTANCE
    return {kind: (shape, None) for kind, shape in table.items()}


def _split(shape: tuple[int, ...], features: int) -> tuple[int, ...]:
    """Spread the normalized size over `features` axes, prime factors first."""
    *rest, size = shape
    parts = []
    for _ in range(features - 1):
        factor = next((p for p in (2, 3, 5, 7, 11, 13) if size % p == 0 and size > p), 1)
        parts.append(factor)
        size //= factor
    return (*rest, *parts, size)
