"""Tiles so small that small arrays are cut in every way that large ones are."""

from contextlib import contextmanager

import pytest

from numpy_norms import batch_norm_inference, normalize
from numpy_norms.engine import plans, tiles
from numpy_norms.engine.threads import in_threads

SIZES = {
    "tiny": {"SCRATCH": 512, "PAYS": 12, "WIDE": 64, "LANES": 16, "SHARES": 1},
    "small": {"SCRATCH": 2048, "PAYS": 1200, "WIDE": 240, "LANES": 3, "SHARES": 4096},
    "middle": {"SCRATCH": 8192, "PAYS": 12000, "WIDE": 480, "LANES": 16, "SHARES": 4096},
}


@contextmanager
def small_tiles(size):
    """Have arrays cut into small tiles, and all but single ones worked on in threads."""
    memory = 5 * SIZES[size]["SCRATCH"] // 4
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MEMORY": memory, "SMALL": 0, "SHORT": 16, **SIZES[size]}.items():
            patch.setattr(plans, name, value)
        patch.setattr(tiles, "in_threads", lambda visit, items, alone: in_threads(visit, items))
        patch.setattr(tiles, "FEW", 0)
        _forget_plans()
        yield
    _forget_plans()


def _forget_plans():
    plans.plan_for.cache_clear()
    normalize._plan.cache_clear()
    batch_norm_inference._plan.cache_clear()
