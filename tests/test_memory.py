"""Beside its results, a call takes at most 4 MiB a thread, however large the arrays are."""

import dataclasses
import platform
import subprocess
import sys
import tracemalloc
from functools import cache

import numpy as np
import pytest
from each import each
from jobs import environment

import numpy_norms as nn

pytestmark = pytest.mark.usefixtures("_without_programs")  # which take memory to be made, too

LIMIT = 4 * 2**20
SIZE = 4_500_000  # a byte for each is more than the limit


@cache
def numbers(dtype):
    """Draw positive numbers, so that they may be variances, too."""
    return np.random.default_rng(0).uniform(0.5, 2.0, SIZE).astype(dtype)


def draw(*shape, dtype=np.float32):
    """Take as many numbers as the shape has."""
    return numbers(dtype)[: np.prod(shape)].reshape(shape)


def arrays_in(value):
    """List the arrays that a result holds, each by the array that owns its memory."""
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        return [value]
    if dataclasses.is_dataclass(value):
        value = tuple(vars(value).values())
    return [a for v in value for a in arrays_in(v)] if isinstance(value, tuple) else []


def call_within_the_limit(function, *arguments, **options):
    """Call, and compare the peak with what the results hold."""
    given = {id(a) for a in arrays_in(arguments)}
    tracemalloc.start()
    try:
        results = function(*arguments, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    held = {id(a): a.nbytes for a in arrays_in(results) if id(a) not in given}
    assert peak - sum(held.values()) <= LIMIT
    return results


@pytest.fixture(autouse=True)
def one_thread():
    """Have one thread work, and the modules loaded that it needs."""
    before = nn.get_num_threads()
    nn.set_num_threads(1)
    nn.layer_norm_backward(*nn.layer_norm_forward(draw(2, 3)))
    yield
    nn.set_num_threads(before)


LONG, COLUMNS, SHORT, ROWS = (2, SIZE // 2), (SIZE // 40, 40), (SIZE // 8, 8), (4500, 1000)
MAPS, LAST = (8, 250, 30, 75), (8, 30, 75, 250)
NORMS = [
    # norm, shape of x, other arguments (of arrays their shape), options
    ("layer_norm", LONG, [], {}),
    ("layer_norm", LONG, [LONG[1:]] * 2, {}),
    ("layer_norm", ROWS, [ROWS[1:]] * 2, {}),
    ("layer_norm", SHORT, [SHORT[1:]] * 2, {}),
    ("layer_norm", MAPS, [MAPS[1:2]] * 2, {"axis": 1}),
    ("rms_norm", LONG, [LONG[1:]], {}),
    ("rms_norm", SHORT, [], {}),
    ("add_layer_norm", ROWS, [ROWS, ROWS[1:], ROWS[1:]], {}),
    ("batch_norm", COLUMNS, [COLUMNS[1:]] * 2, {}),
    ("batch_norm", MAPS, [MAPS[1:2]] * 2, {}),
    ("batch_norm_inference", MAPS, [MAPS[1:2]] * 4, {}),
    ("instance_norm", MAPS, [MAPS[1:2]] * 2, {}),
    ("group_norm", MAPS, [25, *[MAPS[1:2]] * 2], {}),
    ("group_norm", LAST, [25, *[LAST[3:]] * 2], {"channel_axis": -1}),
    ("group_norm", (24, 1342, 6, 2), [1, *[(6,)] * 2], {"channel_axis": 2}),
    ("group_norm", (55, 289, 67, 4), [67, *[(67,)] * 2], {"channel_axis": 2}),
    ("group_norm", (8, 500, 500), [250], {"channel_axis": -1}),
    ("batch_norm", (19101, 3, 6, 2), [(6,)] * 2, {"channel_axis": 2}),
    ("batch_norm", (420_000, 2, 5), [(2,)] * 2, {}),
    ("mean_variance_norm", LONG, [], {"axis": 1}),
    ("mean_variance_norm", MAPS, [], {}),
    ("mean_variance_norm", COLUMNS, [], {"axis": 0}),
    ("lp_normalize", LONG, [], {}),
    ("lp_normalize", SHORT, [], {"p": 1}),
    ("lp_normalize", COLUMNS, [], {"axis": 0, "p": np.inf}),
    ("lp_normalize", ROWS, [], {"p": 3, "eps_place": "inside"}),
    ("local_response_norm", (4, 250, 1000), [], {"size": 3}),
    ("local_response_norm", (4, 25, 100, 100), [], {"size": 5, "axis": (2, 3)}),
    ("local_response_norm", (1, 2, 750, 750), [], {"size": 5, "axis": (2, 3)}),
    ("weight_norm", ROWS, [ROWS[:1]], {}),
    ("weight_norm", COLUMNS, [COLUMNS[1:]], {"channel_axis": 1}),
    ("weight_norm", LONG, [LONG[:1]], {}),
    ("spectral_norm", ROWS, [ROWS[:1], ROWS[1:]], {}),
    ("spectral_norm", COLUMNS, [COLUMNS[1:], COLUMNS[:1]], {"channel_axis": 1}),
    ("spectral_norm", LONG, [LONG[:1], LONG[1:]], {}),
    ("batch_renorm", COLUMNS, [COLUMNS[1:]] * 4, {}),
    ("batch_renorm", MAPS, [MAPS[1:2]] * 4, {}),
    ("global_response_norm", MAPS, [MAPS[1:2]] * 2, {}),
    ("global_response_norm", LAST, [LAST[3:]] * 2, {"channel_axis": -1}),
    ("global_response_norm", (2, 3, SIZE // 6), [(3,)] * 2, {}),
    ("local_response_norm", (1, 1_000_000), [], {"size": 3}),
]


SIX = ["layer_norm", "rms_norm", "batch_norm", "batch_norm_inference"]
SIX += ["instance_norm", "group_norm"]
CASES = [(*norm, np.float32) for norm in NORMS] + [(*norm, np.float64) for norm in NORMS[2::7]]


@each(("norm", "shape", "others", "options", "dtype"), CASES)
def test_norms_forward_and_backward(norm, shape, others, options, dtype):
    x, *others = (draw(*s, dtype=dtype) if isinstance(s, tuple) else s for s in (shape, *others))
    forward, backward = (getattr(nn, f"{norm}_{pass_}") for pass_ in ("forward", "backward"))
    *_, cache = call_within_the_limit(forward, x, *others, **options)
    dy = [x, x] if norm.startswith("add") else [x]
    call_within_the_limit(backward, *dy, cache)


@each(("norm", "shape", "others", "options"), [norm for norm in NORMS if norm[0] in SIX])
def test_float32_in_float32(norm, shape, others, options):
    x, *others = (draw(*s) if isinstance(s, tuple) else s for s in (shape, *others))
    forward, backward = (getattr(nn, f"{norm}_{pass_}") for pass_ in ("forward", "backward"))
    _, cache = call_within_the_limit(forward, x, *others, dtype=np.float32, **options)
    call_within_the_limit(backward, x, cache)


@each("norm", ["layer_norm", "batch_norm"])
@each("dtype", [np.float32, np.float64])
def test_every_size_of_tile(norm, dtype):
    forward, backward = (getattr(nn, f"{norm}_{pass_}") for pass_ in ("forward", "backward"))
    for rows in range(700, 1700, 40):  # one tile at first, and two of almost its size in the end
        x, gamma = draw(rows, 1024), draw(1024)
        _, cache = call_within_the_limit(forward, x, gamma, gamma, dtype=dtype)
        call_within_the_limit(backward, x, cache)


@each(
    ("norm", "shape", "others", "options", "dtype"),
    [c for c in CASES if c[0] in SIX and c[2]],
)
def test_second_order(norm, shape, others, options, dtype):
    x, *others = (draw(*s, dtype=dtype) if isinstance(s, tuple) else s for s in (shape, *others))
    _, cache = getattr(nn, f"{norm}_forward")(x, *others, **options)
    names = ["running_mean", "running_var", "gamma", "beta"]
    tangents = {
        k: a for k, a in zip(names[-len(others) :], others, strict=False) if len(np.shape(a))
    }
    if norm == "rms_norm":
        tangents = {"gamma": others[0]}
    call_within_the_limit(nn.jvp, cache, x_dot=x, **{f"{k}_dot": a for k, a in tangents.items()})
    call_within_the_limit(
        nn.double_backward, x, cache, ddx=x, **{f"dd{k}": a for k, a in tangents.items()}
    )


@each(
    ("norm", "shape", "others", "options", "dtype"),
    [c for c in CASES if c[0] in SIX and c[0] != "batch_norm_inference"],
)
def test_masks(norm, shape, others, options, dtype):
    x, *others = (draw(*s, dtype=dtype) if isinstance(s, tuple) else s for s in (shape, *others))
    options = {**options, "where": np.arange(shape[-1]) % 3 > 0}
    if norm == "batch_norm" and len(shape) == 2:
        options["where"] = options["where"].any() & (np.arange(shape[0])[:, None] % 3 > 0)
    forward, backward = (getattr(nn, f"{norm}_{pass_}") for pass_ in ("forward", "backward"))
    _, cache = call_within_the_limit(forward, x, *others, **options)
    call_within_the_limit(backward, x, cache)
    call_within_the_limit(nn.jvp, cache, x_dot=x)


def test_a_mask_of_its_own_for_each_of_many_small_sets():
    x, gamma = draw(22, 134_292), draw(134_292)
    _, cache = call_within_the_limit(
        nn.batch_norm_forward, x, gamma, gamma, where=draw(*x.shape) < 1.8, dtype=np.float32
    )
    call_within_the_limit(nn.batch_norm_backward, x, cache)


@each("scheme", ["llama", "gemma"])
def test_schemes(scheme):
    x, gamma = draw(*ROWS), draw(*ROWS[1:])
    call_within_the_limit(nn.rms_norm_forward, x, gamma, scheme=scheme)


@each("shape", [ROWS, ROWS[::-1], (22_500, 200)])
def test_power_iteration(shape):
    call_within_the_limit(nn.power_iteration, draw(*shape), draw(shape[0]), draw(shape[1]))


@each(
    ("shape", "channels", "axis"),
    [((4500, 1000), 4500, 0), ((3, 3, 500, 1000), 1000, -1), ((2250, 500, 2, 2), 1000, 1)],
)
def test_folding(shape, channels, axis):
    statistics = [draw(channels)] * 5
    call_within_the_limit(nn.fold_batch_norm, draw(*shape), *statistics, axis=axis)


@each(
    ("shape", "axis"),
    [(LONG, 1), (COLUMNS, 0), (SHORT, 1), (MAPS, (0, 2, 3)), (MAPS, 0), (LAST, (0, 3))],
)
def test_moments(shape, axis):
    m = call_within_the_limit(nn.Moments.of, draw(*shape), axis)
    if m.mean.size < 100_000:
        call_within_the_limit(nn.Moments.merged, [m] * 50)


PAGES = """
import resource
import numpy as np
import numpy_norms as nn
x, gamma = np.ones((256, 768), np.float32), np.ones(768, np.float32)
_, cache = nn.layer_norm_forward(x, gamma)
for _ in range(40):
    del _
    _ = nn.layer_norm_backward(x, cache)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is how glibc keeps memory")
def test_memory_for_tiles_is_asked_of_the_system_once():
    command = [sys.executable, "-c", PAGES]
    lines = subprocess.check_output(command, env=environment(), text=True, timeout=60)
    pages = [int(line) for line in lines.split()]
    assert pages[-1] - pages[2] < 500  # in 37 calls; one takes 770 pages
