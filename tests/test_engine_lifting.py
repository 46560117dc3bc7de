"""Sets of any size, far from zero or constant: each is lifted as it needs, and none for another."""

import numpy as np
from cases import batch_norm, group_norm, layer_norm, parametrize, rms_norm
from each import each
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

NORMS = [
    batch_norm((9, 4)),
    batch_norm((3, 4, 5)),
    layer_norm((4, 9)),
    layer_norm((2, 9, 3), axis=1),
    group_norm((3, 6, 5), 2),
    rms_norm((4, 9)),
]
CENTERED = [norm for norm in NORMS if norm.centered]
KINDS = [
    (np.float64, None),
    (np.float32, None),
    (np.float32, np.float32),
    (np.longdouble, None),
    (np.complex128, None),
]
kinds = each(("dtype", "work"), KINDS)
EXTREMES = [(-532, -990), (-532, 450), (-532, 997), (532, 990), (532, -480)]
EXTREMES += [(404, 753), (138, 967), (-250, -900), (301, -496), (-400, -650)]
many = settings(max_examples=5 * settings.default.max_examples)


def drawn(norms):
    """Draw a norm, and a dtype with what it is computed in."""
    return st.sampled_from(norms), st.sampled_from(KINDS)


def of_sets(norm, rows):
    """An array of the norm's shape, whose sets are the rows."""
    x = np.empty(norm.shape, rows.dtype)
    x.flat[norm.sharing.set_rows] = rows
    return x


def sets(norm, a):
    """The array with one set per row, in its own dtype."""
    return a.reshape(-1)[norm.sharing.set_rows]


def tolerance(dtype, work):
    """A few roundoffs of what is computed in, and one of the result."""
    roundoff = float(np.finfo(np.float64 if work is None and dtype == np.float32 else dtype).eps)
    return 16 * roundoff + 2 * float(np.finfo(dtype).eps)


@many
@given(*drawn(CENTERED), st.data(), st.sampled_from([0.0, 1e-300, 1e-40, 1e-12, 1e-5, 1.0]))
def test_a_constant_of_any_size_gives_beta(norm, kind, data, eps):
    dtype, work = kind
    info = np.finfo(dtype)
    constants = []
    for _ in norm.sharing.set_rows:
        fraction = dtype(data.draw(st.integers(-999, 999)) / 1000)
        exponent = data.draw(st.integers(info.minexp - info.nmant, info.maxexp))
        constants.append(np.ldexp(fraction.real, exponent))
    x = of_sets(norm, np.repeat(np.array(constants, dtype)[:, None], norm.set_size, axis=1))
    arrays, dy = norm.draw(dtype=dtype)
    y, cache = norm.forward({**arrays, "x": x}, eps=eps, dtype=work)
    assert_array_equal(y, arrays["beta"].ravel()[norm.entries])
    assert_array_equal(cache.mean.ravel(), constants)
    assert_array_equal(cache.var, np.zeros_like(cache.var))
    gradients = norm.backward(dy, cache)
    assert_array_equal(gradients["gamma"], np.zeros_like(arrays["gamma"]))
    if eps in (0.0, 1e-5):  # 0 is for a slope without bound
        g = sets(norm, arrays["gamma"].ravel()[norm.entries] * dy)
        slope = 0.0 if eps == 0 else eps**-0.5
        expected = slope * (g - g.mean(axis=1, keepdims=True))
        atol = tolerance(dtype, work) * slope * np.abs(g).max()
        assert_allclose(sets(norm, gradients["x"]), expected, atol=atol)


@many
@given(*drawn(NORMS), st.data(), st.integers(0, 2**32 - 1))
def test_sets_of_any_size_and_mean_are_normalized_like_sets_of_size_one(norm, kind, data, seed):
    dtype, work = kind
    # Powers of two change no digit, so that the sets without them are the oracle.
    info, rng = np.finfo(dtype), np.random.default_rng(seed)
    half, count = info.maxexp // 2, len(norm.sharing.set_rows)
    powers = st.one_of(st.integers(-8, 8), st.integers(-half - 20, info.maxexp - 30))
    exponents = np.array(data.draw(st.lists(powers, min_size=count, max_size=count)))
    mean = data.draw(st.sampled_from([0.0, 1.0, -300.0, 2.0**14])) * norm.centered
    # Eighths, so that x is exact in any of the dtypes.
    rows = mean + np.round(8 * rng.standard_normal((count, norm.set_size))) / 8
    assume((np.ptp(rows, axis=1) > 0).all())
    others, dy = norm.draw(dtype=dtype)
    found = []
    for scale in (np.ones(count), np.ldexp(dtype(1).real, exponents)):
        arrays = {"x": of_sets(norm, rows.astype(dtype) * scale[:, None].astype(dtype))}
        y, gradients = norm.both({**arrays, "gamma": others["gamma"]}, dy, eps=0.0, dtype=work)
        found.append((sets(norm, y), sets(norm, gradients["x"])))
    (usual_y, usual_dx), (y, dx) = found
    atol = tolerance(dtype, work)
    assert_allclose(y, usual_y, rtol=0, atol=atol * np.abs(usual_y).max())
    within = np.abs(exponents) < half - 20  # else dx may leave the range
    dx = dx[within] * np.ldexp(dtype(1).real, exponents[within])[:, None]
    assert_allclose(dx, usual_dx[within], rtol=0, atol=atol * np.abs(usual_dx).max(initial=0))


@kinds
@parametrize(NORMS)
@each("exponent", [-1.1, -0.6, 0.6, 0.8])
@each("mean", [0.0, 1e4])
def test_a_set_that_is_lifted_leaves_the_bits_of_the_others_alone(
    norm, dtype, work, exponent, mean
):
    arrays, dy = norm.draw(dtype=dtype)
    y, usual = norm.both(arrays, dy, eps=0.0, dtype=work)
    x = arrays["x"].copy()
    first = norm.sharing.set_rows[0]
    power = np.ldexp(dtype(1).real, int(exponent * np.finfo(dtype).maxexp))
    x.flat[first] = (x.flat[first] + dtype(mean)) * power
    y_lifted, gradients = norm.both({**arrays, "x": x}, dy, eps=0.0, dtype=work)
    for found, expected in ((y_lifted, y), (gradients["x"], usual["x"])):
        assert_array_equal(sets(norm, found)[1:], sets(norm, expected)[1:])


@kinds
@parametrize(CENTERED)
def test_only_a_set_far_from_zero_has_a_pivot(norm, dtype, work):
    rows = norm.rows(norm.draw()[0]["x"])
    rows = (rows - rows.mean(axis=1, keepdims=True)).astype(dtype)
    _, cache = norm.forward({"x": of_sets(norm, rows)}, dtype=work)
    assert cache.statistics.pivot is cache.statistics.exponent is None
    rows[0] += dtype(1000)
    _, cache = norm.forward({"x": of_sets(norm, rows)}, dtype=work)
    pivots = cache.plan.report(cache.statistics.pivot).ravel()
    assert_allclose(pivots[0].real, 1000, rtol=1e-2)
    assert not pivots[1:].any()
    assert (pivots.astype(dtype) == pivots).all()


@each("eps", [0.0, 1e-5])
@parametrize(NORMS)
def test_complex_numbers_in_all_directions_are_normalized_as_the_formula_says(norm, eps, rng):
    # Squares of theirs may be negative, or cancel.
    rows = rng.standard_normal((*norm.sharing.set_rows.shape, 2)) @ [1, 1j] + 3
    y, _ = norm.forward({"x": of_sets(norm, rows)}, eps=eps)
    centered = rows - rows.mean(axis=1, keepdims=True) * norm.centered
    expected = centered / np.sqrt((centered * centered).mean(axis=1, keepdims=True) + eps)
    assert_allclose(sets(norm, y), expected, rtol=1e-12)


@parametrize(NORMS)
@each("masked", [False, True])
@each(("of_x", "of_dy"), EXTREMES)
def test_dy_may_be_as_small_and_as_large_as_x(norm, masked, of_x, of_dy, rng):
    arrays, dy = norm.draw()
    moved = {**arrays, "x": np.ldexp(arrays["x"], of_x)}
    options = {"where": rng.random(dy.shape) < 0.9} if masked else {}
    _, usual = norm.both(arrays, dy, eps=0.0, **options)
    _, found = norm.both(moved, np.ldexp(dy, of_dy), eps=0.0, **options)
    for name, gradient in usual.items():
        power = of_dy - of_x * (name == "x")
        if -1000 < power < 1000:
            atol = 1e-13 * np.abs(gradient).max()
            assert_allclose(np.ldexp(found[name], -power), gradient, rtol=0, atol=atol)


@parametrize([*NORMS, rms_norm((1, 5))])
@each("power", [500, -520, 400, -404])
def test_x_and_the_root_of_eps_may_be_of_any_size(norm, power):
    arrays, dy = norm.draw()
    y, gradients = norm.both(arrays, dy, eps=2.0**-17)
    moved = {**arrays, "x": np.ldexp(arrays["x"], -power)}
    moved_y, moved_gradients = norm.both(moved, dy, eps=2.0 ** (-17 - 2 * power))
    assert_allclose(moved_y, y, rtol=1e-13, atol=1e-14)
    dx = np.ldexp(moved_gradients.pop("x"), -power)
    assert_allclose(dx, gradients.pop("x"), rtol=1e-12, atol=1e-13)
    for name, gradient in gradients.items():
        assert_allclose(moved_gradients[name], gradient, rtol=1e-12, atol=1e-13)


@parametrize([*NORMS, rms_norm((1, 5))])
@each(("of_x", "of_dy"), [(-914, -650), (-979, -717), (-645, -983), (-1000, 300)])
def test_dy_may_be_as_small_as_an_x_much_smaller_than_the_root_of_eps(norm, of_x, of_dy):
    arrays, dy = norm.draw()
    moved = {**arrays, "x": np.ldexp(arrays["x"], of_x)}
    _, gradients = norm.both(moved, np.ldexp(dy, of_dy), eps=2.0**-996)
    # x_hat is next to nothing, and so is its part of dx.
    dx_hat = sets(norm, dy * arrays["gamma"].ravel()[norm.entries])
    usual = dx_hat - dx_hat.mean(axis=1, keepdims=True) * norm.centered
    dx = sets(norm, np.ldexp(gradients["x"], -of_dy - 498))
    assert_allclose(dx, usual, rtol=0, atol=1e-14 * np.abs(usual).max())
