"""NaN and infinity: they stay within the sets and the sums that they belong to, in silence."""

import numpy as np
from cases import CENTERED, FIVE, INFERENCE, NORMS, SIX, layer_norm, parametrize, rms_norm
from each import each
from numpy.testing import assert_allclose, assert_array_equal

bad_values = each("bad", [np.nan, np.inf, -np.inf])
dtypes = each("dtype", [np.float32, np.float64])


@bad_values
@dtypes
@parametrize(CENTERED)
def test_in_x_it_takes_its_whole_set_and_no_other(norm, bad, dtype):
    arrays, dy = norm.draw(dtype=dtype)
    clean = norm.both(arrays, dy)
    at = tuple(n - 1 for n in norm.shape)
    arrays["x"][at] = bad
    y, gradients = norm.both(arrays, dy)
    lost = norm.sets == norm.sets[at]
    for got, expected in ((y, clean[0]), (gradients["x"], clean[1]["x"])):
        assert np.isnan(got[lost]).all()
        assert_array_equal(got[~lost], expected[~lost])


@bad_values
@parametrize(NORMS)
def test_in_x_it_takes_the_sums_over_its_set_and_no_other(norm, bad):
    arrays, dy = norm.draw()
    _, clean = norm.both(arrays, dy)
    at = (0,) * len(norm.shape)
    arrays["x"][at] = bad
    _, gradients = norm.both(arrays, dy)
    takes_all = norm.centered or np.isnan(bad)
    users = norm.entries[norm.sets == norm.sets[at]] if takes_all else norm.entries[at]
    touched = np.zeros(norm.parameter_shape, dtype=bool)
    touched.flat[users] = True
    assert_array_equal(np.isnan(gradients["gamma"]), touched)
    if norm.centered:
        assert_array_equal(gradients["gamma"][~touched], clean["gamma"][~touched])
        assert_array_equal(gradients["beta"], clean["beta"])


def test_infinity_leaves_the_others_of_an_rms_row_at_zero():
    y, _ = rms_norm((2, 4)).forward({"x": np.array([[1.0, np.inf, -2.0, 3.0], [1, 1, 1, 1]])})
    assert_array_equal(y[0], [0.0, np.nan, 0.0, 0.0])
    assert np.isfinite(y[1]).all()


@bad_values
@parametrize(FIVE)
def test_in_dy_it_takes_dx_of_its_set_and_the_sums_it_enters(norm, bad):
    arrays, dy = norm.draw()
    _, clean = norm.both(arrays, dy)
    at = (1,) * len(norm.shape)
    dy[at] = bad
    _, gradients = norm.both(arrays, dy)
    lost = norm.sets == norm.sets[at]
    assert not np.isfinite(gradients["x"][lost]).any()
    assert_array_equal(gradients["x"][~lost], clean["x"][~lost])
    for name in norm.parameters:
        wrong = ~np.isfinite(gradients[name])
        assert wrong.sum() == 1
        assert wrong.flat[norm.entries[at]]
        assert_array_equal(gradients[name][~wrong], clean[name][~wrong])


@bad_values
@each("name", ["gamma", "beta"])
@parametrize([norm for norm in SIX if "beta" in norm.parameters])
def test_in_a_parameter_it_takes_the_y_that_it_scales_or_shifts(norm, name, bad):
    arrays, dy = norm.draw()
    clean, clean_gradients = norm.both(arrays, dy)
    arrays[name].flat[0] = bad
    y, gradients = norm.both(arrays, dy)
    users = norm.entries == 0
    assert not np.isfinite(y[users]).any()
    assert_allclose(y[~users], clean[~users], rtol=1e-12)
    assert_allclose(gradients["gamma"], clean_gradients["gamma"], rtol=1e-12)
    if name == "beta":
        assert_array_equal(gradients["x"], clean_gradients["x"])


@each("bad", [np.inf, -np.inf])
@each("dtype", [np.float16, np.float32, np.float64])
@parametrize(SIX)
def test_an_infinite_gamma_gives_infinities_with_the_sign_of_x_hat(norm, bad, dtype):
    arrays, _ = norm.draw(dtype=dtype)
    clean, _ = norm.forward(arrays)
    x_hat, _ = norm.forward({k: a for k, a in arrays.items() if k not in ("gamma", "beta")})
    arrays["gamma"].flat[-1] = bad
    y, _ = norm.forward(arrays)
    last = norm.entries == norm.entries.max()
    assert_array_equal(y[last], np.sign(x_hat[last]) * dtype(bad))
    assert_allclose(y[~last], clean[~last], rtol=1e-12, atol=1e-14)


@bad_values
def test_in_x_of_inference_it_stays_where_it_is(bad):
    arrays, dy = INFERENCE.draw()
    clean = INFERENCE.both(arrays, dy)
    arrays["x"][1, 2, 3] = bad
    y, gradients = INFERENCE.both(arrays, dy)
    assert_array_equal(np.argwhere(~np.isfinite(y)), [[1, 2, 3]])
    assert_array_equal(gradients["x"], clean[1]["x"])
    assert_array_equal(np.isfinite(gradients["gamma"]), [True, True, False])


@dtypes
@bad_values
def test_in_one_block_of_many_it_takes_one_row(bad, dtype):
    norm = layer_norm((2003, 257))
    arrays, dy = norm.draw(dtype=dtype)
    clean = norm.both(arrays, dy)
    arrays["x"][1501, 250] = bad
    y, gradients = norm.both(arrays, dy)
    assert_array_equal(np.unique(np.nonzero(np.isnan(y))[0]), [1501])
    assert_array_equal(np.delete(y, 1501, axis=0), np.delete(clean[0], 1501, axis=0))
    rows = [np.delete(g, 1501, axis=0) for g in (gradients["x"], clean[1]["x"])]
    assert_array_equal(*rows)


@bad_values
@each("value", [1e200, 1e-200])
def test_a_row_beyond_the_range_of_squares_changes_no_bit_of_another(value, bad):
    norm = layer_norm((5, 7))
    arrays, dy = norm.draw()
    clean = norm.both(arrays, dy, eps=0.0)
    arrays["x"][3] *= value
    arrays["x"][1, 1] = bad
    y, gradients = norm.both(arrays, dy, eps=0.0)
    assert_array_equal(y[[0, 2, 4]], clean[0][[0, 2, 4]])
    assert_array_equal(gradients["x"][[0, 2, 4]], clean[1]["x"][[0, 2, 4]])
    assert_allclose(y[3], clean[0][3], rtol=1e-13)
