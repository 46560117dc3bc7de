"""However an array is cut into tiles, the results are those of one.

The sizes that decide about the cuts are made tiny, so that small arrays, which the other tests
compare with PyTorch and with the definition, are cut in every way that large ones are.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from cases import (
    INFERENCE,
    NORMS,
    SIX,
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)
from each import each
from layouts import LAYOUTS
from measure import assert_close
from numpy.testing import assert_allclose, assert_array_equal
from small_tiles import SIZES, small_tiles

import numpy_norms
from numpy_norms.engine import plans

SMALL = [*NORMS, INFERENCE]
LARGE = [
    batch_norm((90, 17)),
    batch_norm((7, 4, 6, 18), channel_axis=-1),
    batch_norm_inference((90, 17)),
    layer_norm((6, 12, 4, 7), axis=1),
    layer_norm((5, 12, 40), axis=1),
    layer_norm((3, 2, 40), axis=(1, 2)),
    group_norm((3, 8, 5, 6), 4),
    group_norm((3, 5, 6, 16), 2, channel_axis=-1),
    instance_norm((3, 6, 8, 19), channel_axis=-1),
    rms_norm((2, 300)),
]
ALL = [*SMALL, *LARGE]
# Hundreds of tiles would show no more than tens, and one would be compared with itself.
SINGLE = [n for n in SMALL if n.name[:5] not in ("group", "insta") and math.prod(n.shape) < 100]
CUT = [(norm, ("tiny",) if norm in SINGLE else ("tiny", "small")) for norm in SMALL]
CUT += product(LARGE, [("small", "middle")])
CUT += [(layer_norm((2, 5, 3, 4), axis=1), ("middle",)), (batch_norm((90, 17)), ("tiny",))]
CUT_IN_SETS = [(norm, sizes) for norm, sizes in CUT if norm.name != "batch_norm_inference"]
SOME = [*product(SIX, ["tiny"]), *product(LARGE, ["middle"])]
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}  # a few roundoffs of either result
sizes = each("size", SIZES)
dtypes = each(
    ("dtype", "work"),
    [(np.float64, None), (np.float32, None), (np.float32, np.float32)],
)


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = numpy_norms.get_num_threads()
    yield numpy_norms.set_num_threads
    numpy_norms.set_num_threads(before)


def results(norm, arrays, dy, work):
    """Everything that a norm returns, by name."""
    y, cache = norm.forward(arrays, dtype=work)
    gradients = {f"d{name}": a for name, a in norm.backward(dy, cache).items()}
    statistics = {name: getattr(cache, name) for name in ("mean", "var", "rstd")}
    return {"y": y, **gradients, **statistics}


def assert_as_of_one_tile(norm, found, of_one):
    """Compare set by set, since sets may differ in scale."""
    work, result = of_one["rstd"].dtype, of_one["y"].dtype
    tolerance = TOLERANCE[work.name] + np.finfo(result).eps * (result.itemsize < work.itemsize)
    for name, expected in of_one.items():
        assert (found[name] is None) == (expected is None)
        if name in ("mean", "var", "rstd") and expected is not None:
            assert_allclose(found[name], expected, rtol=tolerance, atol=np.finfo(work).tiny)
        elif name in ("y", "dx"):
            a, b = norm.rows(found[name]), norm.rows(expected)
            terms = np.abs(b).max(axis=1) + (name == "dx") * of_one["rstd"].ravel()
            assert (np.abs(a - b).max(axis=1) <= tolerance * terms).all()
        else:
            assert_close(found[name], expected, tolerance)


@each(("norm", "sizes"), CUT)
@dtypes
def test_many_small_tiles_agree_with_one(norm, sizes, dtype, work):
    arrays, dy = norm.draw(dtype=dtype)
    of_one = []
    for absent in (set(), {"beta"}, {"gamma"}, {"gamma", "beta"}):
        present = {name: a for name, a in arrays.items() if name not in absent}
        of_one.append((present, results(norm, present, dy, work)))
    for size in sizes:
        with small_tiles(size):
            for present, expected in of_one:
                assert_as_of_one_tile(norm, results(norm, present, dy, work), expected)


@each(("norm", "sizes"), CUT_IN_SETS)
@dtypes
def test_sets_are_lifted_in_tiles_as_in_one(norm, sizes, dtype, work):
    arrays, dy = norm.draw(dtype=dtype)
    of_one = []
    for x in lifted_in_turn(norm, arrays["x"]):
        of_one.append((x, results(norm, {**arrays, "x": x}, dy, work)))
    for size in sizes:
        with small_tiles(size):
            for x, expected in of_one:
                assert_as_of_one_tile(norm, results(norm, {**arrays, "x": x}, dy, work), expected)


def lifted_in_turn(norm, x):
    """A set far from zero, then others with squares that overflow or vanish, or constant."""
    most, dtype, rows = np.finfo(x.dtype).maxexp, x.dtype.type, norm.sharing.set_rows
    changes = (
        lambda row: row + dtype(2.0**18),
        lambda row: row * dtype(2.0 ** (most // 2 + 20)),
        lambda row: row * dtype(2.0 ** (-most // 2 - 40)),
        lambda row: np.full_like(row, 0.1 * 2.0 ** (3 * most // 4)),
    )
    for i, change in enumerate(changes):
        x = x.copy()
        row = rows[i % len(rows)]
        x.flat[row] = change(x.flat[row])
        if i in (0, 3) or len(rows) < 3:  # the last has what is changed between
            yield x


@sizes
@dtypes
@each("name", ["layer", "rms"])
def test_what_else_reaches_x_is_added_on_every_tile(name, dtype, work, size):
    norm = {"layer": layer_norm, "rms": rms_norm}[name]((40, 30))
    arrays, dy = norm.draw(dtype=dtype)
    ds = np.asfortranarray(dy[::-1])
    forward = getattr(numpy_norms, f"add_{name}_norm_forward")
    backward = getattr(numpy_norms, f"add_{name}_norm_backward")
    x, gamma = arrays["x"], arrays["gamma"]
    expected = {}
    for given in (gamma, None):
        _, gradients = norm.both({"x": x, "gamma": given}, dy, dtype=work)
        expected[given is None] = gradients["x"] + ds
    with small_tiles(size):
        for given in (gamma, None):
            _, _, cache = forward(x, np.zeros_like(x), given, dtype=work)
            assert_close(
                backward(dy, ds, cache)[0], expected[given is None], 2 * np.finfo(dtype).eps
            )


def bits(norm, arrays, dy, work):
    """All results, as one array of bytes."""
    found = results(norm, arrays, dy, work).values()
    return np.concatenate([np.frombuffer(a.tobytes(), np.uint8) for a in found if a is not None])


@each(("norm", "sizes"), CUT)
@dtypes
def test_threads_change_no_bit_of_many_tiles(norm, sizes, dtype, work, threads):
    arrays, dy = norm.draw(dtype=dtype)
    for size in sizes:
        with small_tiles(size):
            threads(1)
            expected = bits(norm, arrays, dy, work)
            for n in (2, 3):
                threads(n)
                assert_array_equal(bits(norm, arrays, dy, work), expected)


@each(("size", "norms"), [("tiny", SMALL), ("middle", LARGE)])
def test_threads_that_call_at_the_same_time_get_the_bits_of_one(size, norms, threads):
    with small_tiles(size):
        threads(2)
        drawn = [(norm, *norm.draw(), None) for norm in norms]
        expected = [bits(*arguments) for arguments in drawn]
        with ThreadPoolExecutor(4) as pool:
            for found, bits_of_one in zip(
                pool.map(lambda a: bits(*a), drawn), expected, strict=True
            ):
                assert_array_equal(found, bits_of_one)


@each(("norm", "size"), SOME)
@dtypes
def test_memory_layout_changes_no_bit_of_many_tiles(norm, size, dtype, work):
    arrays, dy = norm.draw(dtype=dtype)
    with small_tiles(size):
        expected = bits(norm, arrays, dy, work)
        for layout in LAYOUTS:
            strange = {name: layout(a) for name, a in arrays.items()}
            assert_array_equal(bits(norm, strange, layout(dy), work), expected, layout.__name__)


@each(("norm", "size"), SOME)
@dtypes
def test_tiles_are_written_where_out_says(norm, size, dtype, work):
    arrays, _ = norm.draw(dtype=dtype)
    with small_tiles(size):
        expected, _ = norm.forward(arrays, dtype=work)
        for layout in LAYOUTS:
            if layout.__name__ not in ("read_only", "big_endian"):
                out, x = layout(np.empty_like(expected)), layout(arrays["x"])
                norm.forward(arrays, dtype=work, out=out)
                norm.forward({**arrays, "x": x}, dtype=work, out=x)
                assert_array_equal(out, expected, layout.__name__)
                assert_array_equal(x, expected, layout.__name__)


@each(("norm", "sizes"), CUT_IN_SETS)
def test_a_set_that_is_not_finite_leaves_the_bits_of_others_alone(norm, sizes):
    arrays, dy = norm.draw()
    for size in sizes:
        with small_tiles(size):
            usual = norm.both(arrays, dy)
            x = arrays["x"].copy()
            x.flat[norm.sharing.set_rows[0]] = np.inf
            y, gradients = norm.both({**arrays, "x": x}, dy)
            for found, expected in ((y, usual[0]), (gradients["x"], usual[1]["x"])):
                assert_array_equal(norm.rows(found)[1:], norm.rows(expected)[1:])


@sizes
@parametrize(ALL)
def test_tiles_cover_everything_once(norm, size):
    with small_tiles(size):
        plan = plan_of(norm)
        for slots in (1, 2, 3):
            cut = plans.Cut(plan, slots)
            count = np.zeros(plan.shape, int)
            for lane in cut.lanes:
                for slices in views_of(lane, cut):
                    count[slices] += 1
            assert (count == 1).all(), slots


@sizes
@parametrize(ALL)
def test_lanes_that_add_to_one_table_have_no_set_in_common(norm, size):
    # Else two threads would add to a number at the same time.
    with small_tiles(size):
        plan = plan_of(norm)
        sets = norm.sharing.sets.reshape(plan.shape)
        for slots in (1, 2):
            cut = plans.Cut(plan, slots)
            if cut.disjoint:
                met = [
                    set().union(*(np.unique(sets[s]).tolist() for s in views_of(lane, cut)))
                    for lane in cut.lanes
                ]
                assert sum(map(len, met)) == len(set().union(*met)), slots


def views_of(lane, cut):
    """The parts of the view that a lane goes through."""
    return [view for tiles in cut.runs(lane) for view, _, _ in tiles]


def plan_of(norm):
    """The plan of a norm."""
    arrays, _ = norm.draw()
    return norm.forward(arrays)[1].plan


def test_small_arrays_are_cut_in_every_way():
    # Otherwise the tests above would compare one tile with itself.
    kinds = set()
    for norm, size in [(norm, size) for norm, sizes in CUT for size in sizes]:
        with small_tiles(size):
            plan = plan_of(norm)
            cut = plans.Cut(plan, 2)
        columns = max(plan.over) < len(plan.shape) - 1
        kinds |= {
            ("tiles", "one" if cut.alone else "of whole sets" if cut.whole else "of parts"),
            ("rows", "side by side" if plan.together else "of columns" if columns else "whole"),
            ("parts of parameters", "many" if cut.many else "one"),
            ("sets", "in one lane" if cut.disjoint else "in several"),
            ("lanes", min(len(cut.lanes), 3)),
            (
                "tiles in a run",
                min(3, max(len([*run]) for lane in cut.lanes for run in cut.runs(lane))),
            ),
        }
    assert kinds == {
        *(("tiles", how) for how in ("one", "of whole sets", "of parts")),
        *(("rows", how) for how in ("side by side", "of columns", "whole")),
        *(("parts of parameters", how) for how in ("many", "one")),
        *(("sets", how) for how in ("in one lane", "in several")),
        *(("lanes", number) for number in (1, 2, 3)),
        *(("tiles in a run", number) for number in (1, 2, 3)),
    }
