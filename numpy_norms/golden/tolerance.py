"""How far each result of an honest kernel may be from the exact one.

For y and the gradients of a norm, the bounds of `numpy_norms.verify.tolerances`. Beside them, to
first order and in the same notation, those of its mean and rstd and of batch norm in inference.
"""

from __future__ import annotations

from math import frexp
from typing import Any

import numpy as np

from numpy_norms.golden.cases import Case
from numpy_norms.golden.formats import Array, Format, dtype_of
from numpy_norms.verify import Accumulator, tolerances

DIGITS = 12  # kept of a tolerance, so that the order of NumPy's sums does not show in the files


def accumulator(form: Format) -> str:
    """Return the type that an honest kernel adds up in: float32, but float64 for float64."""
    return "float64" if form.name == "float64" else "float32"


def tolerance(case: Case, expected: dict[str, Array]) -> dict[str, Array]:
    """Return an array for each output, 0 throughout where the arithmetic is exact.

    `expected` are the outputs rounded to float64.
    """
    if case.exact:
        return {name: np.zeros_like(values) for name, values in expected.items()}
    with np.errstate(all="ignore"):
        if case.norm == "batch_norm_inference":
            allowed = _inference(case, expected)
        else:
            allowed = _of_norm(case) | _of_statistics(case, expected)
        least = np.ldexp(1.0, case.form.least)  # what rounding to a subnormal number may cost
        return {name: _short(allowed[name] + least) for name in expected}


def _of_norm(case: Case) -> dict[str, Array]:
    # Squares of float64 numbers near 2^660 overflow; a power of two changes no digit.
    scale = _power_of_two(case.arrays["x"])
    x, gamma, dy = case.arrays["x"] / scale, case.arrays["gamma"], case.arrays["dy"]
    options: dict[str, Any] = dict(case.options)
    found = tolerances(
        case.norm,
        x,
        gamma,
        case.arrays.get("beta"),
        dy,
        eps=case.eps / scale / scale,
        dtype=dtype_of(case.form),
        **options,
    )
    allowed = {name: values for name, values in found._asdict().items() if values is not None}
    return allowed | {"dx": found.dx / scale}


def _of_statistics(case: Case, expected: dict[str, Array]) -> dict[str, Array]:
    share = case.sharing
    x, rstd = np.abs(case.arrays["x"]).ravel(), expected["rstd"].ravel()
    count = np.bincount(share.sets)
    mean_size = np.bincount(share.sets, weights=x / count[share.sets])
    u_w, u_o, a = _roundoffs(case.form, int(count[0]))
    kappa = 0.0 if case.norm == "rms_norm" else mean_size * rstd
    allowed = {"rstd": rstd * (u_w * (a / 2 + 4) + (a * u_w * kappa) ** 2 + u_o)}  # (G2)
    if case.norm != "rms_norm":
        allowed["mean"] = u_w * a * mean_size + u_o * np.abs(expected["mean"].ravel())  # (G1)
    return {name: values.reshape(share.set_shape) for name, values in allowed.items()}


def _inference(case: Case, expected: dict[str, Array]) -> dict[str, Array]:
    channel = case.sharing.parameters
    u_w, u_o, a_n = _roundoffs(case.form, int(np.bincount(channel)[0]))
    x, dy = case.arrays["x"].ravel(), np.abs(case.arrays["dy"]).ravel()
    mean, r = case.arrays["running_mean"][channel], expected["rstd"][channel]
    gamma = np.abs(case.arrays["gamma"])[channel]
    x_hat, terms = np.abs(x - mean) * r, (np.abs(x) + np.abs(mean)) * r
    along = (a_n + 8) * x_hat + 4 * terms
    beta = np.abs(case.arrays["beta"])[channel]
    rstd = expected["rstd"]

    def total(values: Array) -> Array:
        return np.bincount(channel, weights=values)

    def whole(values: Array) -> Array:
        return values.reshape(case.shape)

    # Each without the rounding of the result itself, which is added to all.
    cast = 2 * u_o * gamma * x_hat  # of a kernel that rounds before and after it multiplies
    allowed = {
        "y": whole(u_w * (gamma * (4 * terms + 8 * x_hat) + 2 * beta) + cast),  # (G3)
        "rstd": 6 * u_w * rstd,  # (G4)
        "dx": 8 * u_w * np.abs(expected["dx"]),  # (G5)
        "dgamma": u_w * total(dy * along),  # (G6)
        "dbeta": u_w * a_n * total(dy),  # (G7)
        "drunning_mean": u_w * (a_n + 8) * rstd * total(gamma * dy),  # (G8)
        "drunning_var": u_w * rstd**2 / 2 * total(gamma * dy * along),  # (G9)
    }
    return {name: values + u_o * np.abs(expected[name]) for name, values in allowed.items()}


def _roundoffs(form: Format, terms: int) -> tuple[float, float, float]:
    """Return the roundoff of the accumulator, of the output, and the growth over so many terms."""
    wide = accumulator(form)
    u_w = float(np.finfo(wide).eps) / 2
    return u_w, 2.0**-form.digits, Accumulator(np.dtype(wide)).growth(terms)


def _power_of_two(x: Array) -> float:
    largest = float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))
    return 2.0 ** frexp(largest)[1] if largest > 2.0**500 else 1.0


def _short(values: Array) -> Array:
    mantissa, exponent = np.frexp(values)
    short: Array = np.ldexp(np.round(np.ldexp(mantissa, DIGITS)), exponent - DIGITS)
    return short
