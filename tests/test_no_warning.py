"""No warning of NumPy's escapes, whatever the values, and an error is one of ours."""

import warnings

import ml_dtypes
import numpy as np
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st

import numpy_norms as nn
from numpy_norms import Moments, conventions

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.longdouble, np.complex128]
SHAPES = [(5, 4, 7), (2, 4, 1), (1, 4, 3), (0, 4, 3)]


def arrays(rng, shape, dtype, negative=True):
    """Draw random numbers among which are any of those that make trouble in the dtype."""
    info = ml_dtypes.finfo(np.float64 if dtype is np.complex128 else dtype)
    special = [0.0, np.nan, np.inf, info.max, info.max / 2, info.smallest_subnormal, info.tiny, 1.0]
    chosen = rng.choice(np.array(special, np.longdouble), rng.integers(1, 9))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        a = rng.normal(size=shape).astype(np.longdouble)
        there = rng.random(shape) < rng.choice([0.0, 0.2, 1.0])
        a = np.where(there, rng.choice(chosen, shape), a) * rng.choice([-1, 1], shape)
        a = a if negative else np.abs(a)
        if dtype is np.complex128:
            return (a + 1j * rng.permutation(a.ravel()).reshape(shape)).astype(dtype)
        return a.astype(dtype) if dtype is np.longdouble else a.astype(np.float64).astype(dtype)


def pair(name, *given, **options):
    """Run both passes, and look at all that the cache tells."""
    result = getattr(nn, f"{name}_forward")(*given, **options)
    cache, dy = result[-1], given[0][::-1]
    for told in ("mean", "var", "rstd"):
        getattr(cache, told, None)
    repr(cache)
    more = (dy,) if name.startswith("add") else ()
    return getattr(nn, f"{name}_backward")(dy, *more, cache)


def moments(x, axis):
    m = Moments.of(x, axis)
    m.merge(m).merge(Moments.empty(np.shape(m.mean))).var(correction=1)
    return m.var()


@st.composite
def calls(draw):
    """Draw a function and what it is given."""
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = arrays(rng, draw(st.sampled_from(SHAPES)), dtype)
    mean, gamma, beta = (arrays(rng, (4,), dtype) for _ in range(3))
    var = arrays(rng, (4,), dtype, negative=False)
    eps = draw(st.sampled_from([0.0, 1e-5, 1e-320, 1e308]))
    p = draw(st.sampled_from([2, 1, 0, np.inf, -np.inf, 3, -1, 1040, -1e308, 0.5]))
    momentum = draw(st.sampled_from([0, 0.1, 1]))
    options = {"eps": eps}
    if dtype is not np.complex128 and draw(st.booleans()):
        options["dtype"] = draw(st.sampled_from([np.float32, np.float64, np.longdouble]))
    work = {k: v for k, v in options.items() if k == "dtype"}
    scaling = gamma, beta
    eps_place = draw(st.sampled_from(["max", "outside", "inside"]))
    rows = np.resize(beta, x.size // 4)
    weight = arrays(rng, (4, 3), dtype)
    state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}

    def update(batch):
        return nn.update_running_stats(mean, var, batch, momentum=momentum)

    return draw(
        st.sampled_from(
            [
                lambda: pair("batch_norm", x, *scaling, **options),
                lambda: pair("group_norm", x, 2, *scaling, **options),
                lambda: pair("instance_norm", x, *scaling, **options),
                lambda: pair("batch_norm_inference", x, mean, var, *scaling, **options),
                lambda: pair("layer_norm", x, axis=(1, 2), **options),
                lambda: pair("rms_norm", x, axis=(1, 2), **options),
                lambda: pair("add_layer_norm", x, x[:, ::-1], axis=(1, 2), **options),
                lambda: pair("add_rms_norm", x, x[:, ::-1], axis=(1, 2), **options),
                lambda: pair("lp_normalize", x, p=p, axis=(1, 2), eps_place=eps_place, **options),
                lambda: pair("mean_variance_norm", x, axis=(0, 2), **options),
                lambda: pair("local_response_norm", x, 3, **work),
                lambda: pair("local_response_norm", x, 2, axis=(1, 2), **work),
                lambda: pair("weight_norm", x, gamma, channel_axis=1, **work),
                lambda: pair("spectral_norm", x, gamma, rows, channel_axis=1, **work),
                lambda: nn.power_iteration(x, gamma, rows, channel_axis=1, eps=eps),
                lambda: pair("batch_renorm", x, mean, var, *scaling, r_max=1e300, **options),
                lambda: pair("global_response_norm", x, *scaling, **options),
                lambda: moments(x, 0),
                lambda: moments(x, (0, 2)),
                lambda: update(Moments.of(x, (0, 2))),
                lambda: update(nn.batch_norm_forward(x, **options)[1]),
                lambda: nn.fold_batch_norm(weight, beta, mean, var, gamma, gamma, eps=eps),
                lambda: conventions.convert_running_var(var, 5, "keras", "pytorch"),
                lambda: conventions.load(state, "pytorch"),
            ]
        )
    )


def refusal(call):
    """Return what an error says; None where there is none."""
    try:
        call()
    except (ValueError, TypeError) as error:
        return str(error)


@settings(max_examples=250)
@given(calls())
def test_no_warning_escapes_and_every_error_is_ours(call):
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        said = refusal(call)
    assert said is None or "; " in said or ", but " in said


@each("dtype", DTYPES)
def test_parts_of_a_complex_state_are_never_dropped(dtype):
    """Mixed, either the result is complex or the call is refused."""
    one = np.ones(4, dtype)
    wide = one.astype(np.complex128) * (1 + 2j)
    _, cache = nn.batch_norm_forward(np.ones((3, 4), dtype) * np.arange(3)[:, None].astype(dtype))
    for mean, var in ((one, wide), (wide, one), (wide, wide)):
        new = nn.update_running_stats(mean, var, cache, momentum=0.5)
        for old, a in zip((mean, var), new, strict=True):
            assert a.dtype == old.dtype
            assert (a.imag == old.imag / 2).all()
