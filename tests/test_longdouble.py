"""longdouble in all of the family: right to a few of its own units, against 60 digits of mpmath."""

import numpy as np
import pytest
from each import each
from mpmath import mp, mpf

import numpy_norms as nn

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps == np.finfo(np.float64).eps, reason="longdouble is float64 here"
)
EPS, ALPHA, UNITS = 0.3, 0.7, 16  # no power of two, nor what these are divided by


@pytest.fixture(autouse=True)
def digits():
    """Compute in 60 digits."""
    with mp.workdps(60):
        yield


@np.vectorize(otypes=[object])
def exact(v):
    """Make a number of mpmath from one of NumPy, in two parts that float64 holds."""
    return mpf(float(v)) + mpf(float(v - np.longdouble(float(v))))


root, power, size = (np.vectorize(f, otypes=[object]) for f in (mp.sqrt, mp.power, abs))


def draw(*shape, seed=0):
    """Draw numbers that float64 does not hold."""
    high, low = np.random.default_rng(seed).standard_normal((2, *shape))
    return high.astype(np.longdouble) + np.longdouble(2) ** -55 * low


def mean(a, axes):
    """Average over axes, which stay."""
    return a.sum(axes, keepdims=True) / mpf(a.size // a.sum(axes).size)


def assert_right(got, expected):
    """Compare, in units of the largest entry."""
    assert got.dtype == np.longdouble
    unit = size(expected).max() * mpf(2) ** -np.finfo(np.longdouble).nmant
    assert (size(exact(got) - expected) <= UNITS * unit).all()


def assert_gradient(backward, f, x):
    """Compare a backward pass with the change of sum(dy * f) to either side of each entry."""
    dy, x = draw(*x.shape, seed=1), exact(x)
    step, slopes = mpf(10) ** -25, np.empty(x.shape, object)
    for at in np.ndindex(x.shape):
        unit = np.zeros(x.shape, object)
        unit[at] = step
        slopes[at] = (exact(dy) * (f(x + unit) - f(x - unit))).sum() / (2 * step)
    found = backward(dy)
    assert_right(found[0] if isinstance(found, tuple) else found, slopes)


X, GAMMA, BETA = draw(2, 3, 5), draw(3, seed=2), draw(3, seed=3)
MEAN, VAR = draw(3, seed=4), np.abs(draw(3, seed=5))


def check(pair, f, *arguments, **options):
    """Compare y and dx of a pair with a function of x in mpmath."""
    forward, backward = pair
    y, cache = forward(X, *arguments, **options)
    assert_right(y, f(exact(X)))
    assert_gradient(lambda dy: backward(dy, cache), f, X)


def test_weight_norm():
    g = draw(2, seed=6)
    pair = nn.weight_norm_forward, nn.weight_norm_backward
    check(pair, lambda v: exact(g)[:, None, None] * v / root((v * v).sum((1, 2), keepdims=True)), g)


def test_global_response_norm():
    def f(x):
        q = root((x * x).sum(2, keepdims=True))
        scaled = exact(GAMMA)[:, None] * x * q / (mean(q, 1) + mpf(EPS))
        return x + scaled + exact(BETA)[:, None]

    pair = nn.global_response_norm_forward, nn.global_response_norm_backward
    check(pair, f, GAMMA, BETA, eps=EPS)


def test_mean_variance_norm():
    def f(x):
        xc = x - mean(x, (0, 2))
        return xc / (root(mean(xc * xc, (0, 2))) + mpf(EPS))

    pair = nn.mean_variance_norm_forward, nn.mean_variance_norm_backward
    check(pair, f, axis=(0, 2), eps=EPS)


def test_batch_renorm():
    limit = mpf(1.1)
    xc = exact(X) - mean(exact(X), (0, 2))
    ratio = root(mean(xc * xc, (0, 2)) + mpf(EPS)) / root(exact(VAR)[:, None] + mpf(EPS))
    r = np.vectorize(lambda v: min(max(v, 1 / limit), limit), otypes=[object])(ratio)
    assert (r != ratio).any()

    def f(x):
        xc = x - mean(x, (0, 2))
        return r * xc / root(mean(xc * xc, (0, 2)) + mpf(EPS))

    pair = nn.batch_renorm_forward, nn.batch_renorm_backward
    check(pair, f, MEAN, VAR, eps=EPS, r_max=1.1, d_max=0)


@each(("beta", "k"), [(0.75, 1.3), (0.5, 0.0), (-1.5, 2.0)])
def test_local_response_norm(beta, k):
    def f(x):
        s = [(x[:, max(0, c - 1) : c + 2] ** 2).sum(1) for c in range(3)]
        return x / power(mpf(k) + mpf(ALPHA) / 3 * np.stack(s, 1), mpf(beta))

    pair = nn.local_response_norm_forward, nn.local_response_norm_backward
    check(pair, f, 3, alpha=ALPHA, beta=beta, k=k)


@each("p", [2, 1, 3, 1 / 3, -0.3, 1.1])
@each("place", ["max", "outside", "inside"])
@each("eps", [0.0, EPS, 100.0])
def test_lp_normalize(p, place, eps):
    def f(x):
        total = power(size(x), mpf(p)).sum(1, keepdims=True)
        if place == "inside":
            return x / power(total + mpf(eps), 1 / mpf(p))
        n = power(total, 1 / mpf(p))
        return x / (n + mpf(eps) if place == "outside" else np.maximum(n, mpf(eps)))

    pair = nn.lp_normalize_forward, nn.lp_normalize_backward
    check(pair, f, p=p, axis=1, eps=eps, eps_place=place)


def test_spectral_norm():
    u, v = draw(2, seed=7), draw(15, seed=8)
    pair = nn.spectral_norm_forward, nn.spectral_norm_backward
    check(pair, lambda W: W / (exact(u) @ W.reshape(2, 15) @ exact(v)), u, v)


@each("momentum", [0.1, 0.3, 1.0])
def test_running_statistics(momentum):
    _, cache = nn.batch_norm_forward(X)
    found = nn.update_running_stats(MEAN, VAR, cache, momentum=momentum)
    mu = mean(exact(X), (0, 2))
    var = ((exact(X) - mu) ** 2).sum((0, 2)) / 9
    for got, old, new in zip(found, (MEAN, VAR), (mu.ravel(), var), strict=True):
        assert_right(got, (1 - mpf(momentum)) * exact(old) + mpf(momentum) * new)
