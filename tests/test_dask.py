"""Norms and moments of Dask arrays: those of NumPy's, however the array is cut."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from each import each
from extras import need
from jobs import SECONDS, TESTS, environment

need("dask")

import dask  # noqa: E402
import dask.array as da  # noqa: E402

import numpy_norms as nn  # noqa: E402
from numpy_norms.dask import batch_norm, layer_norm, moments, rms_norm  # noqa: E402
from numpy_norms.dask.again import again  # noqa: E402

SHAPE = (23, 6, 50)
CHUNKS = [(5, 3, 20), (23, 6, 50), (1, 6, 50), (23, 2, 50), (23, 6, 7), ((20, 0, 3), 6, (1, 49))]
chunked = each("chunks", CHUNKS)
NORMS = {
    "batch": (batch_norm, nn.batch_norm_forward, {"channel_axis": 1}, (6,)),
    "batch, last": (batch_norm, nn.batch_norm_forward, {"channel_axis": -1}, (50,)),
    "batch, two": (batch_norm, nn.batch_norm_forward, {"channel_axis": (0, 1)}, (23, 6)),
    "layer": (layer_norm, nn.layer_norm_forward, {"axis": -1}, (50,)),
    "layer, two": (layer_norm, nn.layer_norm_forward, {"axis": (1, 2)}, (6, 50)),
    "layer, heads": (layer_norm, nn.layer_norm_forward, {"feature_axis": (1, 2)}, (6, 50)),
    "layer, first": (layer_norm, nn.layer_norm_forward, {"axis": 0}, (23,)),
    "rms": (rms_norm, nn.rms_norm_forward, {"axis": -1}, (50,)),
    "rms, two": (rms_norm, nn.rms_norm_forward, {"axis": (0, 2)}, (23, 50)),
}
norms = each("norm", NORMS)


@pytest.fixture(autouse=True)
def _two_threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def draw(dtype=np.float32, mean=3.0, shape=SHAPE, seed=0):
    """Draw data far from zero."""
    return (mean + np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def parameters(norm, dtype):
    """Draw gamma, and beta where the norm has one."""
    function, _, _, shape = NORMS[norm]
    number = 1 if function is rms_norm else 2
    return [*np.random.default_rng(1).standard_normal((number, *shape)).astype(dtype)]


@norms
@each(("chunks", "mean"), [*((chunks, 1e6) for chunks in CHUNKS), (CHUNKS[0], 0.0)])
def test_float32_has_the_bits_of_the_whole_array(norm, chunks, mean):
    lazily, at_once, options, _ = NORMS[norm]
    x, given = draw(mean=mean), parameters(norm, np.float32)
    d = da.from_array(x, chunks=chunks)
    y, (expected, _) = lazily(d, *given, **options), at_once(x, *given, **options)
    assert (y.shape, y.dtype, y.chunks) == (x.shape, x.dtype, d.chunks)
    got = y.compute()
    assert got.dtype == np.float32
    assert np.count_nonzero(got != expected) <= 1
    assert np.allclose(got, expected, rtol=2e-7, atol=0)


@norms
@each(("chunks", "scale"), [(CHUNKS[0], 1.0), (CHUNKS[-1], 1e200)])
def test_float64_is_right_to_a_few_units(norm, chunks, scale):
    lazily, at_once, options, _ = NORMS[norm]
    x, given = draw(np.float64, 1e3) * scale, parameters(norm, np.float64)
    got = lazily(da.from_array(x, chunks=chunks), *given, **options).compute()
    expected, _ = at_once(x, *given, **options)
    assert np.abs(got - expected).max() <= 4e-15 * np.abs(expected).max()


@each("dtype", [np.float16, np.complex128, np.longdouble])
@each("norm", ["batch", "layer", "rms"])
def test_other_dtypes(norm, dtype):
    lazily, at_once, options, _ = NORMS[norm]
    x, given = draw(dtype), parameters(norm, dtype)
    got = lazily(da.from_array(x, chunks=(5, 3, 20)), *given, **options).compute()
    expected, _ = at_once(x, *given, **options)
    assert got.dtype == dtype
    unit = np.finfo(dtype).eps
    assert np.abs(got - expected).max() <= 8 * unit * np.abs(expected).max()


@norms
def test_parameters_may_be_dask_arrays_and_absent(norm):
    lazily, at_once, options, _ = NORMS[norm]
    x, given = draw(np.float64), parameters(norm, np.float64)
    d = da.from_array(x, chunks=(12, 3, 25))
    of_dask = [da.from_array(a, chunks=20) for a in given]
    assert np.allclose(lazily(d, *of_dask, **options), at_once(x, *given, **options)[0], atol=1e-13)
    assert np.allclose(lazily(d, **options), at_once(x, **options)[0], atol=1e-13)


def test_eps_and_dtype_are_those_of_the_call():
    x = draw()
    d = da.from_array(x, chunks=(5, 3, 20))
    for norm in ("batch", "layer", "rms"):
        lazily, at_once, options, _ = NORMS[norm]
        got = lazily(d, eps=0.7, dtype=np.float32, **options).compute()
        expected, _ = at_once(x, eps=0.7, dtype=np.float32, **options)
        assert np.allclose(got, expected, rtol=1e-4, atol=1e-5)
        assert not np.array_equal(got, at_once(x, eps=0.7, **options)[0])


@chunked
@each("axis", [0, -1, (0, 2), (0, 1, 2)])
def test_moments_are_those_of_the_whole(chunks, axis):
    x = draw(np.float64, mean=1e7)
    m, expected = moments(da.from_array(x, chunks=chunks), axis).compute(), nn.Moments.of(x, axis)
    assert np.array_equal(m.count, expected.count)
    assert np.allclose(m.mean, expected.mean, rtol=1e-15)
    assert np.allclose(m.m2, expected.m2, rtol=1e-13)


def test_moments_are_lazy_and_go_where_moments_go():
    x = draw(np.float64)
    m = moments(da.from_array(x, chunks=(5, 3, 20)), (0, 2))
    mean, var = dask.compute(m.mean, m.var(correction=1))
    assert np.allclose(mean, x.mean((0, 2)))
    assert np.allclose(var, x.var((0, 2), ddof=1))
    got = nn.update_running_stats(np.zeros(6), np.ones(6), m.compute())
    expected = nn.update_running_stats(np.zeros(6), np.ones(6), nn.batch_norm_forward(x)[1])
    assert np.allclose(got, expected)


def counting(counts):
    """Return an array that counts how often each chunk is made."""

    def make(block_info=None):
        k = block_info[None]["chunk-location"]
        counts[k] = counts.get(k, 0) + 1
        return draw(shape=block_info[None]["chunk-shape"], seed=k)

    return da.map_blocks(make, chunks=((4, 4, 4), (6, 6)), dtype=np.float32)


def test_nothing_is_made_before_it_is_asked_for():
    counts = {}
    x = counting(counts)
    for lazily in (batch_norm, layer_norm, rms_norm, partial(moments, axis=0)):
        lazily(x)
    assert not counts


@each(
    ("call", "times"),
    [
        (partial(moments, axis=0), 1),
        (batch_norm, 2),
        (layer_norm, 2),
        (lambda x: layer_norm(x.rechunk((4, -1))), 1),
        (lambda x: batch_norm(x.rechunk((-1, 6))), 1),
        (lambda x: batch_norm(x.rechunk((3, 2))), 2),
        (lambda x: batch_norm((x + 1)[::2].T, channel_axis=0), 2),
        (lambda x: batch_norm(x.persist()), 1),
    ],
)
def test_a_chunk_is_made_as_often_as_is_said(call, times):
    counts = {}
    call(counting(counts)).compute()
    assert set(counts.values()) == {times}


@each(
    "change",
    [
        lambda x: x,
        lambda x: x.rechunk((3, 2)),
        lambda x: (x * 2 + 1)[::2],
        lambda x: da.concatenate([x, x.T.rechunk((4, 4)).T]),
        lambda x: x.persist(),
        lambda x: da.stack([da.from_delayed(dask.delayed(np.ones)(3), (3,), float)] * 2),
    ],
)
def test_an_array_again_is_the_same_and_shares_no_task(change):
    x = change(counting({}))
    copy = again(x)
    assert copy.chunks == x.chunks
    assert np.array_equal(copy.compute(), x.compute())
    (first, second) = (set(dict(a.__dask_graph__())) for a in (x, copy))
    assert not first & second


@pytest.mark.parametrize("scheduler", ["threads", "distributed"])
def test_an_array_larger_than_memory(scheduler):
    need(*(["distributed"] if scheduler == "distributed" else []))
    command = [sys.executable, TESTS / "larger_than_memory.py", scheduler]
    job = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=2 * SECONDS
    )
    assert (job.returncode, job.stdout.strip()) == (0, "done"), job.stderr


D = da.ones((4, 6), chunks=2)
UNKNOWN = D[D[:, 0] > 0]
MASKED = da.ma.masked_array(D, D > 3)


@each("lazily", [batch_norm, layer_norm, rms_norm, partial(moments, axis=0)])
def test_chunks_of_unknown_size_are_refused_with_the_cure(lazily):
    with pytest.raises(ValueError, match=r"pass x\.compute_chunk_sizes\(\).*rechunk"):
        lazily(UNKNOWN)
    known = UNKNOWN.copy()
    known.compute_chunk_sizes()
    assert lazily(known).compute() is not None


@each(
    ("call", "kind", "message"),
    [
        (lambda: batch_norm(np.ones((4, 6))), TypeError, "x is a ndarray, but a Dask array"),
        (lambda: moments(np.ones(4), 0), TypeError, r"pass da\.from_array"),
        (lambda: layer_norm(da.ones((4, 6), dtype=int)), TypeError, "x has dtype int64"),
        (lambda: batch_norm(D, np.ones(5)), ValueError, r"gamma has shape \(5,\)"),
        (lambda: batch_norm(D, da.ones(5)), ValueError, r"gamma has shape \(5,\)"),
        (lambda: layer_norm(D, beta=da.ones(6, dtype=int)), TypeError, "beta has dtype int64"),
        (lambda: batch_norm(D.T, UNKNOWN[:, 0]), ValueError, "gamma has chunks of unknown size"),
        (lambda: layer_norm(D, axis=2), ValueError, "axis is 2"),
        (lambda: rms_norm(D, eps=-1.0), ValueError, "eps is -1.0"),
        (lambda: batch_norm(D, channel_axis=7), ValueError, "channel_axis is 7"),
        (lambda: batch_norm(D, dtype=np.float16), TypeError, "dtype is float16"),
        (lambda: layer_norm(D, dtype="spin"), TypeError, "dtype is 'spin', which names no type"),
        (lambda: rms_norm(D, MASKED[0]), TypeError, r"pass da\.ma\.filled\(gamma, value\)"),
        (lambda: layer_norm(D, axis=UNKNOWN), TypeError, "axis is dask.array.*, but an integer"),
        (lambda: nn.group_norm_forward(np.ones((2, 6)), UNKNOWN), TypeError, "num_groups is dask"),
        (
            lambda: nn.Moments.merged(moments(D, 0)),
            TypeError,
            r"parts is a Delayed, .* pass \[what its compute",
        ),
        (lambda: nn.Moments.merged([moments(D, 0)]), TypeError, "pass what its compute"),
        (lambda: moments(D, (0, -2)), ValueError, "names an axis twice"),
        (lambda: rms_norm(MASKED), TypeError, r"pass da\.ma\.filled\(x, value\)"),
        (
            lambda: nn.update_running_stats(np.zeros(6), np.ones(6), moments(D, 0)),
            TypeError,
            "cache is a Delayed, .* pass what its compute",
        ),
    ],
)
def test_what_is_wrong_is_raised_at_once(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_the_cures_for_masked_arrays_work():
    for cure in (da.ma.getdata(MASKED), da.ma.filled(MASKED, 0.0)):
        assert np.isfinite(rms_norm(cure).compute()).all()


def test_the_cure_for_another_array_works():
    x = draw()
    with pytest.raises(TypeError, match=r"pass da\.from_array\(x, chunks='auto'\)"):
        batch_norm(x)
    y = batch_norm(da.from_array(x, chunks="auto")).compute()
    assert np.array_equal(y, nn.batch_norm_forward(x)[0])
