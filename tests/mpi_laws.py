"""Run the laws of batch norm over ranks; each rank of an MPI job runs this file.

What came of each law is printed by rank 0, in one line of JSON: "" or what went wrong.
"""

import json
import sys
import traceback
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from mpi4py import MPI

import numpy_norms as nn
from numpy_norms.distributed import sync_batch_norm_backward, sync_batch_norm_forward

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size
C = 5
OLD = np.linspace(-1, 1, C), np.linspace(0.5, 2, C)


def cut(a):
    """Return this rank's samples: uneven, those of rank 1 none."""
    ends = [0, 3, 3][:SIZE]
    return np.split(a, ends[1:])[RANK] if SIZE > 1 else a


def together(a):
    """Return all ranks' samples on every rank, in order."""
    return np.concatenate(COMM.allgather(a))


def draw(shape, mean=3.0, dtype=np.float32, channel_axis=1, masked=False):
    """Draw a whole batch, the same on every rank, with channels of different mean and spread."""
    rng = np.random.default_rng(17)
    like = [1] * len(shape)
    like[channel_axis] = C
    spread = np.linspace(0.5, 2, C).reshape(like)
    x = mean * np.linspace(0.5, 1, C).reshape(like) + spread * rng.standard_normal(shape)
    dy = rng.standard_normal(shape) + 0.3
    gamma, beta = rng.standard_normal((2, C))
    where = rng.random(shape) < 0.6 if masked else None
    return (*(a.astype(dtype) for a in (x, dy, gamma, beta)), where)


def both_ways(x, dy, gamma, beta, where, **options):
    """Return results of this rank, and of the single process that has all."""
    own = None if where is None else cut(where)
    y, cache = sync_batch_norm_forward(cut(x), gamma, beta, comm=COMM, where=own, **options)
    gradients = sync_batch_norm_backward(cut(dy), cache, comm=COMM, reduce_parameters=True)
    y_all, cache_all = nn.batch_norm_forward(x, gamma, beta, where=where, **options)
    gradients_all = nn.batch_norm_backward(dy, cache_all)
    here = {"y": together(y), "dx": together(gradients[0])}
    here |= dict(zip(("dgamma", "dbeta"), gradients[1:], strict=True))
    there = dict(zip(("y", "dx", "dgamma", "dbeta"), (y_all, *gradients_all), strict=True))
    return here, there, cache, cache_all


def neighbours(a, b):
    """Say whether two arrays differ by a unit in the last place at most."""
    bits = a.view(f"i{a.itemsize}").astype(int), b.view(f"i{b.itemsize}").astype(int)
    same_sign = (bits[0] < 0) == (bits[1] < 0)
    return bool((same_sign & (np.abs(bits[0] - bits[1]) <= 1)).all())


SHAPES = {1: (11, C, 200), -1: (11, 200, C)}


def law_float32_is_that_of_the_single_process():
    different = total = 0
    for mean in (0.0, 3.0, -1e3, 1e6):
        for channel_axis in (1, -1):
            for masked in (False, True):
                batch = draw(SHAPES[channel_axis], mean, np.float32, channel_axis, masked)
                here, there, *_ = both_ways(*batch, channel_axis=channel_axis)
                for name, a in there.items():
                    assert here[name].dtype == a.dtype == np.float32
                    assert neighbours(here[name], a), (name, mean, channel_axis, masked)
                    different += np.count_nonzero(here[name] != a)
                    total += a.size
    assert different <= total * 1e-6, (different, total)


def law_half_precision_is_that_of_the_single_process():
    for dtype in (np.float16, ml_dtypes.bfloat16):
        for mean in (0.0, 300.0):
            here, there, *_ = both_ways(*draw(SHAPES[1], mean, dtype, 1, True))
            for name, a in there.items():
                assert here[name].dtype == dtype
                assert neighbours(here[name], a), (name, mean)
                assert np.count_nonzero(here[name] != a) <= 1, (name, mean)


def law_float64_is_right_to_a_few_units():
    for mean, scale, eps in ((0, 1, 1e-5), (1e6, 1, 1e-5), (3, 1e200, 1e-5), (3, 1e-200, 0)):
        for masked in (False, True):
            x, dy, *rest = draw(SHAPES[1], mean, np.float64, 1, masked)
            here, there, *_ = both_ways(x * scale, dy, *rest, eps=eps)
            for name, a in there.items():
                error = np.abs(here[name] - a).max()
                assert error <= 4e-15 * np.abs(a).max(), (name, mean, scale, error)


def law_channels_may_lie_on_several_axes():
    x, dy, gamma, beta, _ = draw((11, C, 40), dtype=np.float64)
    x, dy = (np.moveaxis(a.reshape(11, C, 4, 10), 2, 3) for a in (x, dy))  # (11, C, 10, 4)
    gamma, beta = np.outer(gamma, [1, -2, 3, 4]), np.outer(beta, [1, 0, 3, -1])
    here, there, *_ = both_ways(x, dy, gamma, beta, None, channel_axis=(1, 3))
    for name, a in there.items():
        assert np.abs(here[name] - a).max() <= 4e-15 * np.abs(a).max(), name


def law_all_ranks_have_the_same_bits():
    for dtype in (np.float32, np.float64):
        x, dy, gamma, beta, where = draw(SHAPES[1], 1e4, dtype, 1, True)
        _, _, cache, _ = both_ways(x, dy, gamma, beta, where)
        bits = b"".join(
            a.tobytes()
            for a in (cache.moments.count, cache.mean, cache.moments.m2, cache.var, cache.rstd)
        )
        assert len({*COMM.allgather(bits)}) == 1


def law_without_parameters_their_gradients_are_none():
    x, dy, *_ = draw(SHAPES[1], dtype=np.float64)
    here, there, *_ = both_ways(x, dy, None, None, None)
    assert here["dgamma"] is here["dbeta"] is None
    assert np.abs(here["dx"] - there["dx"]).max() < 1e-14


def law_gradients_of_parameters_are_the_ranks_own_share():
    x, dy, gamma, beta, _ = draw(SHAPES[1], dtype=np.float64)
    _, cache = sync_batch_norm_forward(cut(x), gamma, beta, comm=COMM)
    _, dgamma, dbeta = sync_batch_norm_backward(cut(dy), cache, comm=COMM)
    x_hat = (cut(x) - cache.mean[:, None]) * cache.rstd[:, None]
    assert np.allclose(dgamma, (cut(dy) * x_hat).sum((0, 2)), rtol=1e-12, atol=1e-12)
    assert np.allclose(dbeta, cut(dy).sum((0, 2)), rtol=1e-12, atol=1e-12)


def law_one_sample_a_rank_is_a_batch():
    x, dy, gamma, beta, _ = draw((SIZE, C), dtype=np.float64)
    y, cache = sync_batch_norm_forward(x[RANK : RANK + 1], gamma, beta, comm=COMM)
    dx, *_ = sync_batch_norm_backward(dy[RANK : RANK + 1], cache, comm=COMM)
    y_all, cache_all = nn.batch_norm_forward(x, gamma, beta)
    assert np.allclose(together(y), y_all, rtol=0, atol=1e-13)
    assert np.allclose(together(dx), nn.batch_norm_backward(dy, cache_all)[0], rtol=0, atol=1e-11)
    if SIZE == 1:
        assert (y == beta).all()
    else:
        assert cache.moments.count[0] == SIZE
        new = nn.update_running_stats(*OLD, cache)  # one value a rank, but not in all
        assert np.allclose(new[1], 0.9 * OLD[1] + 0.1 * x.var(0, ddof=1), rtol=1e-12)


def law_running_statistics_count_the_whole_batch():
    for masked in (False, True):
        batch = draw((11, C, 6), 1e3, np.float64, 1, masked)
        *_, cache, cache_all = both_ways(*batch)
        for correction in (0, 1):
            here = nn.update_running_stats(*OLD, cache, correction=correction)
            there = nn.update_running_stats(*OLD, cache_all, correction=correction)
            assert np.allclose(here, there, rtol=1e-14, atol=0)


def law_equal_weights_of_ragged_parts_would_be_wrong():
    x, *_ = draw((11, C), mean=0.0, dtype=np.float64)
    x += np.arange(11)[:, None]
    _, cache = sync_batch_norm_forward(cut(x), comm=COMM)
    assert np.allclose(cache.mean, x.mean(0), rtol=1e-13)
    assert np.allclose(cache.var, x.var(0), rtol=1e-13)
    parts = [a for a in COMM.allgather(cut(x)) if len(a)]
    if len(parts) > 1:
        assert not np.allclose(cache.mean, np.mean([a.mean(0) for a in parts], 0), rtol=0.05)
        assert not np.allclose(cache.var, np.mean([a.var(0) for a in parts], 0), rtol=0.05)


def law_dx_knows_the_sums_of_all_ranks():
    x, dy, gamma, beta, _ = draw((11, C), dtype=np.float64)
    here, *_ = both_ways(x, dy, gamma, beta, None)
    assert abs(here["dx"].sum(0)).max() < 1e-13  # over all ranks, not over each
    if SIZE > 1 and len(cut(x)):
        assert abs(cut(here["dx"]).sum(0)).max() > 1e-3


def law_what_does_not_count_reaches_nothing():
    x, dy, gamma, beta, where = draw((11, C, 6), dtype=np.float64, masked=True)
    dy = dy * where
    clean, _, cache, _ = both_ways(x, dy, gamma, beta, where)
    spoiled, _, spoiled_cache, _ = both_ways(np.where(where, x, np.nan), dy, gamma, beta, where)
    assert np.array_equal(cache.mean, spoiled_cache.mean)
    assert np.array_equal(clean["y"][where], spoiled["y"][where])
    assert np.array_equal(clean["dx"], spoiled["dx"])
    assert np.array_equal(clean["dgamma"], spoiled["dgamma"])


def law_a_channel_may_be_absent_on_a_rank_but_not_on_all():
    x, dy, gamma, beta, _ = draw((11, C, 6), dtype=np.float64)
    where = np.ones(x.shape, bool)
    where[:3, 2] = False  # none counts on rank 0
    if SIZE > 1:
        here, there, *_ = both_ways(x, dy, gamma, beta, where)
        assert np.allclose(here["y"], there["y"], rtol=0, atol=1e-13)
        assert np.allclose(here["dx"], there["dx"], rtol=0, atol=1e-13)
    where[:, 2] = False
    refused(ValueError, "all of channel 2", cut(x), gamma, beta, where=cut(where))


def law_constant_parts_are_beta_exactly():
    for value in (0.1, 1e6, -1e300):
        x = np.full((4, C), value)
        beta = np.linspace(-1, 1, C)
        y, cache = sync_batch_norm_forward(x, np.ones(C), beta, comm=COMM)
        assert (y == beta).all(), value
        assert (cache.var == 0).all()
        assert (cache.mean == value).all()
        dx, *_ = sync_batch_norm_backward(np.ones(x.shape), cache, comm=COMM)
        assert (dx == 0).all()


def law_an_empty_batch_changes_nothing():
    y, cache = sync_batch_norm_forward(np.empty((0, C, 3)), np.ones(C), comm=COMM)
    assert y.shape == (0, C, 3)
    dx, dgamma, _ = sync_batch_norm_backward(np.empty((0, C, 3)), cache, comm=COMM)
    assert dx.shape == (0, C, 3)
    assert (dgamma == 0).all()
    assert np.array_equal(nn.update_running_stats(*OLD, cache), OLD)


def law_nan_stays_in_its_channel():
    x, dy, gamma, beta, _ = draw((11, C, 6), dtype=np.float64)
    x[-1, 3, 2] = np.nan
    here, *_ = both_ways(x, dy, gamma, beta, None)
    for name in ("y", "dx"):
        bad = np.isnan(here[name]).any(axis=(0, 2))
        assert bad.tolist() == [False, False, False, True, False]


def law_no_argument_changes():
    arguments = draw((11, C, 6), masked=True)
    copies = [a.copy() for a in arguments]
    both_ways(*arguments)
    assert all(np.array_equal(a, b) for a, b in zip(arguments, copies, strict=True))


def refused(kind, message, *arguments, comm=COMM, **options):
    """Check that all ranks raise, and that they can go on afterwards."""
    try:
        sync_batch_norm_forward(*arguments, comm=comm, **options)
    except kind as error:
        text = str(error)
    else:
        text = "nothing was raised"
    texts = COMM.allgather(text)
    assert all(message in t for t in texts), texts
    y, _ = sync_batch_norm_forward(np.ones((2, C)), comm=COMM)
    assert (y == 0).all()


def law_what_is_wrong_on_one_rank_is_raised_on_all():
    last = RANK == SIZE - 1
    gamma = np.ones(C + 1 if last else C)
    refused(ValueError, "gamma has shape (6,)", np.ones((2, C)), gamma)
    refused(TypeError, "x has dtype int64", np.ones((2, C), int if last else float))
    refused(ValueError, "eps is -1.0", np.ones((2, C)), eps=-1.0 if last else 1e-5)
    refused(TypeError, "where has dtype", np.ones((2, C)), where=np.ones(C) if last else None)
    refused(ValueError, "at least 2 axes", np.ones(C) if last else np.ones((2, C)))
    refused(TypeError, "communicator of mpi4py", np.ones((2, C)), comm=None)
    if SIZE > 1:
        message = "^gamma" if last else f"^rank {SIZE - 1}: gamma"
        with pytest.raises(ValueError, match=message):
            sync_batch_norm_forward(np.ones((2, C)), gamma, comm=COMM)


def law_what_differs_between_ranks_is_named():
    if SIZE == 1:
        return
    last = RANK == SIZE - 1
    refused(ValueError, "number of channels is (5,) on rank 0", np.ones((2, C + last)))
    refused(ValueError, "eps is 0.1 on rank 0", np.ones((2, C)), eps=0.1 + last)
    wide = np.ones((0, C), np.float64 if last else np.float32)
    refused(ValueError, "dtype of x is float32 on rank 0", wide)
    work = np.float32 if last else None
    refused(ValueError, "working dtype is float64", np.ones((2, C), np.float32), dtype=work)
    _, cache = sync_batch_norm_forward(np.ones((2, C)), comm=COMM)
    forward = partial(sync_batch_norm_forward, comm=COMM)
    backward = partial(sync_batch_norm_backward, cache=cache, comm=COMM)
    with pytest.raises(RuntimeError, match="rank 0 is at sync_batch_norm_backward"):
        (forward if last else backward)(np.ones((2, C)))


def law_a_wrong_backward_is_raised_on_all():
    _, cache = sync_batch_norm_forward(np.ones((2, C)), comm=COMM)
    _, other = nn.batch_norm_forward(np.ones((2, C)))
    last = RANK == SIZE - 1
    for kind, message, dy, c in (
        (ValueError, r"dy has shape \(3, 5\)", np.ones((3 if last else 2, C)), cache),
        (TypeError, "cache is a Cache", np.ones((2, C)), other if last else cache),
    ):
        with pytest.raises(kind, match=message):
            sync_batch_norm_backward(dy, c, comm=COMM)


def outcome(law):
    """Run a law; return what went wrong on any rank."""
    try:
        law()
        mine = ""
    except Exception:
        mine = f"rank {RANK}: {traceback.format_exc()}"
    return "".join(COMM.allgather(mine))


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    laws = {name: law for name, law in globals().items() if name.startswith("law_")}
    found = {name: outcome(law) for name, law in laws.items()}
    if RANK == 0:
        json.dump(found, sys.stdout)
