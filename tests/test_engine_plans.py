"""How arrays are cut: the limits of memory are kept for arrays of every shape."""

from math import prod

import numpy as np
from each import each

from numpy_norms.engine import plans
from numpy_norms.engine.plans import Asked, Layout, Plan

LENGTHS = (1, 2, 3, 31, 1000, 1031, 70_001, 535_210, 3_000_017)
ITEMSIZES = {4: np.float32, 8: np.float64, 16: np.complex128}
KINDS = {
    "rows": lambda n, d: Layout((n, d), over=(1,), along=(1,), sets=(0,)),
    "columns": lambda n, d: Layout((n, d), over=(0,), along=(1,), sets=(1,)),
    "all": lambda n, d: Layout((n, d), over=(0, 1), along=(0, 1), sets=()),
    "given": lambda n, d: Layout((n, d), over=(), along=(1,), sets=(0, 1)),
    "maps": lambda n, d: Layout((n, 5, d), over=(0, 2), along=(1,), sets=(1,)),
    "rows of columns": lambda n, d: Layout((3, n, d), over=(1,), along=(1,), sets=(0, 2)),
    "columns of rows": lambda n, d: Layout((n, 3, d), over=(0, 2), along=(0, 2), sets=(1,)),
    "groups": lambda n, d: Layout((3, n, 4, d), over=(2, 3), along=(1, 2), sets=(0, 1)),
    "groups of columns": lambda n, d: Layout((3, n, 4, d), over=(1, 3), along=(2, 3), sets=(0, 2)),
}


def plans_of(kind):
    """The plans of arrays of every shape, of at most ten thousand million elements."""
    for n in LENGTHS:
        for d in LENGTHS:
            layout = KINDS[kind](n, d)
            if prod(layout.shape) <= 10**10:
                for dtype in map(np.dtype, ITEMSIZES.values()):
                    yield Plan(layout, dtype, dtype, Asked(True, dtype, dtype))


@each("kind", KINDS)
@each("slots", [1, 2, 3])
def test_a_tile_and_the_sums_beside_it_are_within_the_limits(kind, slots):
    for plan in plans_of(kind):
        extent, whole = plans._extents(plan, slots)
        places = slots * prod(extent) * plan.work.itemsize
        assert places <= plans.SCRATCH
        # Totals so far, those of a tile, and a copy of them in float64.
        long = prod([extent[a] for a in plan.over if a in plan.along])
        assert places + 3 * plans.SUM * long <= plans.MEMORY
        assert whole <= all(extent[a] == plan.shape[a] for a in plan.over)
        assert all(1 <= e <= n for e, n in zip(extent, plan.shape, strict=True))


@each("kind", KINDS)
def test_short_rows_are_never_parted(kind):
    # Else a tile would be copied for each of its sums.
    for plan in plans_of(kind):
        if plan.together:
            for slots in (1, 2, 3):
                extent, _ = plans._extents(plan, slots)
                assert tuple(extent[plan.inner + 1 :]) == plan.row


@each("kind", ["rows", "rows of columns", "groups"])
def test_a_set_is_cut_in_a_batch_as_it_is_alone(kind):
    # So that it is summed in the same order.
    for n in LENGTHS[2:6]:
        for d in LENGTHS[2:7]:
            layouts = [KINDS[kind](n, d)] * 2
            free = layouts[0].sets[0]
            alone = [1 if a == free else k for a, k in enumerate(layouts[0].shape)]
            layouts[1] = layouts[0]._replace(shape=tuple(alone))
            cuts = set()
            for layout in layouts:
                dtype = np.dtype(np.float64)
                plan = Plan(layout, dtype, dtype, Asked(True, dtype, dtype))
                extent, _ = plans._extents(plan, 2)
                cuts.add(tuple([extent[a] for a in plan.over]))
            assert len(cuts) == 1
