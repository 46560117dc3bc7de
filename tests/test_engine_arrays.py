"""Arrays whose steps are put off are what the same steps, done at once, make of plain arrays."""

import numpy as np
from each import each
from hypothesis import example, given
from hypothesis import strategies as st
from small_tiles import small_tiles

from numpy_norms.engine.arrays import Deferred, Eager
from numpy_norms.engine.plans import Asked, Layout, Plan

WORK = np.dtype(np.float64)
MAPS = Layout((3, 4, 7), over=(0, 2), along=(1,), sets=(1,))
ROWS = Layout((5, 9), over=(1,), along=(1,), sets=(0,))
COLUMNS = Layout((12, 5), over=(0,), along=(1,), sets=(1,))
GROUPS = Layout((3, 2, 4, 5), over=(2, 3), along=(1, 2), sets=(0, 1))
INSTANCES = Layout((3, 4, 7), over=(2,), along=(1,), sets=(0, 1))
OF_COLUMNS = Layout((3, 8, 5), over=(1,), along=(), sets=(0, 2))
NOTHING_ALONG = Layout((5, 9), over=(1,), along=(), sets=(0,))


def plan(layout, size=None, *, apart=False):
    """A plan of its own; with a size, rows are laid side by side."""
    asked = Asked(True, WORK, WORK, apart)
    if size is None:
        return Plan(layout, WORK, WORK, asked)
    with small_tiles(size):
        return Plan(layout, WORK, WORK, asked)


PLANS = {
    "rows": plan(ROWS),
    "maps": plan(MAPS),
    "maps, factors apart": plan(MAPS, apart=True),
    "groups": plan(GROUPS),
    "instances": plan(INSTANCES),
    "columns": plan(COLUMNS),
    "columns side by side": plan(COLUMNS, "small"),
    "rows of columns": plan(OF_COLUMNS),
    "rows of columns side by side": plan(OF_COLUMNS, "small", apart=True),
    "rows without parameters": plan(NOTHING_ALONG),
}


class Plain:
    """An array on which each step is done at once, and the sizes of the terms it is made of."""

    def __init__(self, values):
        self.values, self.terms = values.copy(), np.abs(values)

    def step(self, name, other):
        b, terms = (other.values, other.terms) if type(other) is Plain else (other, np.abs(other))
        if name == "*=":
            self.values, self.terms = self.values * b, self.terms * terms
        else:
            sign = 1 if name == "+=" else -1
            self.values, self.terms = self.values + sign * b, self.terms + terms


def step(array, name, b):
    """Do a step as the equations write it."""
    if name == "+=":
        array += b
    elif name == "-=":
        array -= b
    else:
        array *= b
    return array


OPERANDS = ("none", "per set", "per parameter", "array")
steps = st.tuples(
    st.sampled_from(("+=", "-=", "*=")),
    st.integers(0, 2),
    st.sampled_from(OPERANDS),
    st.integers(0, 2),
)
questions = st.tuples(
    st.sampled_from(("E", "S")),
    st.integers(0, 2),
    st.sampled_from(("one", "product")),
    st.integers(0, 2),
)
programs = st.lists(st.one_of(steps, questions), min_size=1, max_size=12)


@given(programs, st.integers(0, 2**32 - 1))
@example([("-=", 1, "array", 0), ("-=", 2, "array", 1)], 0)
@example([("E", 2, "product", 1), ("+=", 2, "array", 0), ("E", 2, "product", 1)], 0)
@each("name", PLANS)
@each("apart", [True, False])
def test_steps_in_any_order_and_sums_between_are_those_of_plain_arrays(name, apart, program, seed):
    plan, rng = PLANS[name], np.random.default_rng(seed)
    plain = [Plain(rng.standard_normal(plan.shape) + 0.5) for _ in range(3)]
    arrays = []
    for p in plain:
        now = p.values.copy()
        place = np.full_like(now, np.nan) if apart else now
        now.flags.writeable = not apart  # what lies elsewhere is the caller's
        arrays.append(plan.array(now, place, plan, None))
    for what, i, kind, j in program:
        if plain[i] is None:  # used up by another
            continue
        if what in ("E", "S"):
            other = j if kind == "product" and plain[j] is not None else None
            assert_is_sum(plan, what, arrays, plain, i, other)
        elif kind == "array":
            if i != j and plain[j] is not None:
                arrays[i] = step(arrays[i], what, arrays[j])
                plain[i].step(what, plain[j])
                plain[j] = None
        elif kind == "none":
            arrays[i] = step(arrays[i], what, None)
        else:
            b = rng.standard_normal(plan.set_shape if kind == "per set" else plan.parameter_shape)
            arrays[i] = step(arrays[i], what, b)
            plain[i].step(what, b)
    for array, p in zip(arrays, plain, strict=True):
        if p is not None:
            value = array.value()
            assert (np.abs(value - p.values) <= 1e-14 * p.terms).all()
            assert value is array.now or value is array.place


def assert_is_sum(plan, what, arrays, plain, i, other):
    """Compare the sum over a set, or over all that share a parameter."""
    E, _, S, _ = plan.sums
    axes = plan.over if what == "E" else [a for a in range(len(plan.shape)) if a not in plan.along]
    got = (E if what == "E" else S)(arrays[i], None if other is None else arrays[other])
    values, terms = plain[i].values, plain[i].terms
    if other is not None:
        values, terms = values * plain[other].values, terms * plain[other].terms
    share = plan.m if what == "E" else 1
    expected = values.sum(tuple(axes), keepdims=True) / share
    assert got.shape == expected.shape
    assert (np.abs(got - expected) <= 1e-13 * terms.sum(tuple(axes), keepdims=True) / share).all()


def test_every_kind_of_array_is_among_the_plans():
    assert {p.array for p in PLANS.values()} == {Eager, Deferred}
    assert {p.together for p in PLANS.values()} == {True, False}


@each("name", PLANS)
def test_rounding_goes_on_from_the_rounded_numbers(name, rng):
    plan = PLANS[name]
    x, b = rng.standard_normal(plan.shape), rng.standard_normal(plan.set_shape)
    array = plan.array(x, np.empty_like(x), plan, None)
    array *= b
    array.round(np.dtype(np.float32))
    array -= b
    assert (array.value() == (x * b).astype(np.float32) - b).all()
