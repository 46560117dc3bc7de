"""The shapes of the battery: every size distinct, most of them prime, sets of a given kind."""

from __future__ import annotations

from numpy_norms.oracle.sets import FEATURE_NORMS

__all__ = ["shapes"]

Shape = tuple[tuple[int, ...], int | None]

_BATCH = {
    "ordinary": (7, 5, 3, 2),
    "flat": (19, 6),
    "deep": (3, 4, 2, 5, 7),
    "few": (1, 5, 17),
    "pair": (2, 7),
    "broad": (13, 37),
    "long": (13, 3, 97),
    "many": (2, 65539),
    "tail": (1031, 3),
    "exact": (8, 3, 4),
    "exact_long": (64, 3, 32),
}
_FEATURES = {
    "ordinary": (5, 7, 13),
    "flat": (7, 19),
    "deep": (2, 3, 5, 7, 11),
    "few": (1, 17),
    "single": (5, 3, 1),
    "pair": (7, 3, 2),
    "broad": (41, 13),
    "long": (3, 1301),
    "many": (65539, 2),
    "tail": (1031, 3),
    "exact": (3, 7, 32),
    "exact_long": (3, 2048),
}
_GROUP = {
    "ordinary": ((3, 10, 7, 2), 2),
    "flat": ((7, 6), 2),
    "deep": ((2, 12, 3, 5, 7), 3),
    "few": ((1, 6, 17), 1),
    "single": ((5, 3, 1), 3),
    "pair": ((5, 7, 2), 7),
    "broad": ((7, 22, 5), 11),
    "long": ((2, 6, 523), 2),
    "many": ((257, 257, 2), 257),
    "tail": ((1031, 6, 2), 3),
    "exact": ((3, 8, 4, 2), 2),
    "exact_long": ((3, 8, 512), 2),
}
_INSTANCE = {
    "ordinary": (3, 5, 7, 2),
    "flat": (7, 4, 19),
    "deep": (3, 4, 2, 5, 7),
    "few": (1, 5, 17),
    "pair": (5, 7, 2),
    "broad": (7, 11, 5),
    "long": (2, 3, 1301),
    "many": (257, 257, 2),
    "tail": (1031, 3, 5),
    "exact": (3, 5, 8, 4),
    "exact_long": (3, 2, 2048),
}


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
