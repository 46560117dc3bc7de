"""A small pass done again by its calls of NumPy alone: the same bits, whatever the numbers are."""

from contextlib import contextmanager
from itertools import combinations

import ml_dtypes
import numpy as np
import pytest
from cases import FIVE, INFERENCE, batch_norm, group_norm, instance_norm, layer_norm, parametrize
from each import each
from layouts import LAYOUTS
from small_tiles import small_tiles

import numpy_norms
from numpy_norms import batch_norm_inference as inference
from numpy_norms import normalize
from numpy_norms.engine import programs, tiles
from numpy_norms.further import mean_variance_norm

KINDS = [
    *FIVE,
    INFERENCE,
    layer_norm((1, 70)),
    layer_norm((3, 2000)),
    layer_norm((8000, 2)),
    batch_norm((2, 8000)),
    batch_norm((40, 3)),
    batch_norm((7, 3, 5, 2)),
    batch_norm((6, 5), channel_axis=0),
    group_norm((1, 6, 11), 3),
    instance_norm((5, 7, 2), channel_axis=-1),
]
BFLOAT16 = ml_dtypes.bfloat16
DTYPES = [("e", None), (BFLOAT16, "f"), ("f", None), ("f", "f"), ("d", None)]
NUMBERS = {
    "near": lambda x, rng: x,
    "far": lambda x, rng: 50 + x,
    "very far": lambda x, rng: 1 + x / 1024,
    "one outlier": lambda x, rng: np.where(rng.random(x.shape) < 0.1, 200 * x, x),
    "constant": lambda x, rng: np.ones_like(x),
    "not finite": lambda x, rng: np.where(rng.random(x.shape) < 0.1, np.inf, x),
    "tiny": lambda x, rng: x * ml_dtypes.finfo(x.dtype).tiny,
    "large": lambda x, rng: x * (ml_dtypes.finfo(x.dtype).max / 8),
    "zero": lambda x, rng: 0 * x,
}

pytestmark = pytest.mark.usefixtures("_without_programs")


def outcome(norm, arrays, dy, **options):
    """Everything that a pair gives."""
    forward = getattr(numpy_norms, f"{norm.name}_forward")
    y, cache = forward(**arrays, **norm.options, **options)
    gradients = getattr(numpy_norms, f"{norm.name}_backward")(dy, cache)
    return bits([y, *cache.statistics, *gradients])


def bits(arrays):
    """What is to be the same."""
    return [a if a is None else (a.dtype, a.shape, a.tobytes()) for a in arrays]


def drawn(norm, seed, name, dtype):
    """Random arguments in a dtype, with x and every other gamma changed, and dy."""
    rng = np.random.default_rng(seed)
    arrays, dy = norm.draw(seed, mean=0.1)
    with np.errstate(all="ignore"):
        arrays = {k: a.astype(dtype) for k, a in arrays.items()}
        arrays["x"] = NUMBERS[name](arrays["x"], rng).astype(dtype)
        if seed % 2:
            arrays["gamma"] *= ml_dtypes.finfo(dtype).max ** 0.5
    return arrays, dy.astype(dtype)


@contextmanager
def noted():
    """Have programs made at the first call, and list them: None for what has none."""
    programs.kind.cache_clear()
    made = []
    make = programs._program

    def note(*args):
        made.append(make(*args))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_program", note)
        patch.setattr(programs, "OFTEN", 1)
        yield made


@pytest.fixture
def made():
    with noted() as programs_made:
        yield programs_made


@contextmanager
def passes_alone():
    """No programs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (normalize, inference, mean_variance_norm, tiles):
            for name in {"_filled", "_gradients", "_on_tile"} & {*vars(module)}:
                patch.setattr(module, name, getattr(module, name).__wrapped__)
        yield


@parametrize(KINDS)
@each(("dtype", "work"), DTYPES)
def test_a_program_gives_the_bits_of_its_pass(norm, dtype, work):
    given = {(name, seed): drawn(norm, seed, name, dtype) for name in NUMBERS for seed in range(2)}
    with passes_alone():
        expected = {key: outcome(norm, *given[key], dtype=work) for key in given}
    for first in ("near", "far"):
        with noted() as made:
            for key in ((first, 0), (first, 1), *given):
                assert outcome(norm, *given[key], dtype=work) == expected[key], (first, key)
        assert sum(p is not None for p in made) >= 2


@parametrize([*FIVE, INFERENCE, layer_norm((40, 30)), batch_norm((40, 30))])
@each("size", ["tiny", "middle"])
@each("work", [np.float32, None])
def test_programs_of_tiles_give_the_bits_of_their_passes(norm, size, work):
    with small_tiles(size), noted():
        for name in NUMBERS:
            arrays, dy = drawn(norm, 1, name, "f")
            found = [outcome(norm, arrays, dy, dtype=work) for _ in range(2)]
            with passes_alone():
                assert found == [outcome(norm, arrays, dy, dtype=work)] * 2, name


def masked(x, gamma, beta, dy):
    y, cache = numpy_norms.batch_norm_forward(x, gamma, beta, where=dy > -1)
    along = {"x_dot": dy, "gamma_dot": beta}
    return y, *numpy_norms.batch_norm_backward(dy, cache), numpy_norms.jvp(cache, **along)


def twice(x, gamma, beta, dy):
    _, cache = numpy_norms.batch_norm_forward(x, gamma, beta)
    return numpy_norms.double_backward(dy, cache, ddx=x[::-1].copy(), ddgamma=beta)


def twice_in_inference(x, gamma, beta, dy):
    _, cache = numpy_norms.batch_norm_inference_forward(x, beta, np.abs(beta), gamma)
    return numpy_norms.double_backward(dy, cache, ddx=x[::-1].copy(), ddrunning_var=beta)


def renormalized(x, gamma, beta, dy):
    options = {"r_max": 1.5, "d_max": 0.5}
    y, cache = numpy_norms.batch_renorm_forward(x, beta, np.abs(beta), gamma, beta, **options)
    return y, cache.r, cache.d, *numpy_norms.batch_renorm_backward(dy, cache)


def of_powers(x, gamma, beta, dy):
    results = []
    for p in (3, 0, np.inf):
        y, cache = numpy_norms.lp_normalize_forward(x, p=p, axis=(0, 2))
        results += y, numpy_norms.lp_normalize_backward(dy, cache)
    return results


def eps_outside(x, gamma, beta, dy):
    y, cache = numpy_norms.mean_variance_norm_forward(x, axis=(0, 2))
    return y, numpy_norms.mean_variance_norm_backward(dy, cache)


def by_response(x, gamma, beta, dy):
    y, cache = numpy_norms.global_response_norm_forward(x, gamma, beta)
    return y, *numpy_norms.global_response_norm_backward(dy, cache)


def by_sigma(x, gamma, beta, dy):
    vector = np.resize(gamma, x[0].size)
    w, cache = numpy_norms.spectral_norm_forward(x, np.resize(beta, len(x)), vector)
    return w, numpy_norms.spectral_norm_backward(dy, cache)


def moments(x, gamma, beta, dy):
    m = numpy_norms.Moments.of(x, axis=(0, 2), where=dy > -1)
    return m.count, m.mean, m.m2


@each(
    "passes",
    [
        *(masked, twice, twice_in_inference, renormalized, of_powers),
        *(eps_outside, by_response, by_sigma, moments),
    ],
)
@each("size", ["tiny", "small"])
def test_programs_of_tiles_give_the_bits_of_all_other_passes(passes, size):
    norm = batch_norm((6, 3, 40))
    with small_tiles(size), noted():
        for name in ("near", "far", "not finite"):
            arrays, dy = drawn(norm, 1, name, "f")
            found = [bits(passes(**arrays, dy=dy)) for _ in range(2)]
            with passes_alone():
                assert found == [bits(passes(**arrays, dy=dy))] * 2, name


@parametrize([*FIVE, INFERENCE])
def test_what_comes_once_in_a_while_is_not_noted(norm, monkeypatch):
    arrays, dy = drawn(norm, 0, "near", "d")
    with noted() as made:
        monkeypatch.setattr(programs, "OFTEN", 3)
        for n in (0, 0, 2, 2):
            outcome(norm, arrays, dy)
            assert len(made) == n
        assert None not in made


def test_numbers_that_differ_are_noted_ever_less_often(made):
    norm = layer_norm((4, 6))
    for i in range(200):
        arrays, _ = drawn(norm, 0, "far" if i % 2 else "near", "f")
        numpy_norms.layer_norm_forward(**arrays, dtype=np.float32)
    assert 2 <= len(made) <= 5


@parametrize([*FIVE, INFERENCE])
def test_x_may_be_overwritten_by_a_program_of_other_numbers(norm, made):
    forward = getattr(numpy_norms, f"{norm.name}_forward")
    for name in NUMBERS:
        arrays, _ = drawn(norm, 0, name, "f")
        options = {"dtype": np.float32, **norm.options}
        y, _ = forward(**arrays, **options)
        x = arrays["x"].copy()
        found, _ = forward(**{**arrays, "x": x}, **options, out=x)
        assert found is x
        assert bits([x]) == bits([y])


@parametrize([*FIVE, INFERENCE])
@each("layout", LAYOUTS)
def test_programs_of_any_memory_layout_give_the_same_bits(norm, layout, made):
    arrays, dy = drawn(norm, 0, "near", "f")
    expected = outcome(norm, arrays, dy)
    laid_out = {k: layout(a) for k, a in arrays.items()}
    for _ in range(3):
        assert outcome(norm, laid_out, layout(dy)) == expected


@each("scheme", ["llama", "gemma", "onnx"])
@each("dtype", [np.float16, BFLOAT16])
def test_a_scheme_s_program_gives_the_bits_of_its_pass(scheme, dtype):
    rng = np.random.default_rng(0)
    with noted() as made:
        for _ in range(3):
            x, dy = (rng.standard_normal((4, 64)).astype(dtype) for _ in range(2))
            gamma = rng.standard_normal(64).astype(dtype)

            def both(x=x, dy=dy, gamma=gamma):
                y, cache = numpy_norms.rms_norm_forward(x, gamma, dtype=np.float32, scheme=scheme)
                return bits([y, *numpy_norms.rms_norm_backward(dy, cache)])

            found = both()
            with passes_alone():
                assert found == both()
    assert None not in made
    assert len(made) == 2


def test_norms_with_one_plan_and_other_shapes_are_told_apart(made, rng):
    x, gamma = rng.standard_normal((2, 3, 2, 5)), rng.standard_normal((3, 2))
    grouped = x.reshape(2, 6, 5).copy(), 3, gamma.ravel().copy()
    for _ in range(3):
        options = {"axis": (2, 3), "feature_axis": (1, 2)}
        y, cache = numpy_norms.layer_norm_forward(x, gamma, **options)
        dx, dgamma, _ = numpy_norms.layer_norm_backward(x, cache)
        y_grouped, cache_grouped = numpy_norms.group_norm_forward(*grouped)
        dx_grouped, dgamma_grouped, _ = numpy_norms.group_norm_backward(grouped[0], cache_grouped)
        assert dgamma.shape == (3, 2)
        assert dgamma_grouped.shape == (6,)
        assert np.array_equal(y.ravel(), y_grouped.ravel())
        assert np.array_equal(dx.ravel(), dx_grouped.ravel())


@each("shape", [(0, 3), (2, 0), (2, 3, 0)])
def test_results_of_empty_arrays_are_their_own(shape, made):
    x, gamma = np.empty(shape), np.ones(shape[1])
    for _ in range(4):
        _, cache = numpy_norms.instance_norm_forward(x, gamma)
        dgamma = numpy_norms.instance_norm_backward(x, cache)[1]
        assert not dgamma.any()
        assert not cache.var.any()
        dgamma += 1
        cache.var[...] += 1


def test_out_may_be_a_memory_map(tmp_path, made):
    out = np.memmap(tmp_path / "y", dtype=np.float64, mode="w+", shape=(4, 6))
    x = np.random.default_rng(0).standard_normal((4, 6))
    for _ in range(3):
        y, _ = numpy_norms.layer_norm_forward(x, out=out)
        assert y is out
        assert np.array_equal(y, numpy_norms.layer_norm_forward(x)[0])


@pytest.mark.filterwarnings("error")
def test_nothing_warns_while_it_is_noted(made):
    x = np.ones((4, 6), complex) * np.arange(6)
    gamma = np.full(6, np.nan + 0j)
    for _ in range(3):
        _, cache = numpy_norms.layer_norm_forward(x, gamma)
        numpy_norms.layer_norm_backward(x, cache)


def test_results_are_arrays_of_their_own(made):
    norm = layer_norm((4, 6))
    arrays, dy = drawn(norm, 0, "near", "d")
    for _ in range(3):
        y, cache = numpy_norms.layer_norm_forward(**arrays)
        results = [y, cache.mean, cache.var, *numpy_norms.layer_norm_backward(dy, cache)]
        assert {type(a) for a in results} == {np.ndarray}
        before = bits(results)
        numpy_norms.layer_norm_backward(2 * dy, numpy_norms.layer_norm_forward(**arrays)[1])
        assert bits(results) == before
        assert not any(np.shares_memory(a, b) for a, b in combinations(results, 2))


def test_a_question_that_is_not_noted_leaves_the_pass_without_a_program(made):
    def asks(plan, a):
        return a * float(a.sum())

    plan = numpy_norms.layer_norm_forward(np.ones((2, 3)))[1].plan
    repeated = programs.repeated(asks)
    for a in (np.ones(3), np.full(3, 2.0)):
        assert repeated(plan, a).tolist() == (a * a.sum()).tolist()
    assert made[1:] == [None]


def test_what_is_written_to_is_not_taken_for_what_it_was(made):
    def writes(plan, a):
        b, c = a + 1, a + 1
        c += b
        a += 1
        return c, a + 1

    plan = numpy_norms.layer_norm_forward(np.ones((2, 3)))[1].plan
    repeated = programs.repeated(writes)
    for _ in range(3):
        c, d = repeated(plan, np.ones(3))
        assert (c.tolist(), d.tolist()) == ([4.0] * 3, [3.0] * 3)
