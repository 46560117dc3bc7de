"""The batteries of `check_kernel`: each made once for all kernels that are tried on it."""

from functools import cache

from numpy_norms.verify.kernel import Trial


@cache
def trial(norm, dtype="float32"):
    """Return what ``check_kernel(norm, dtype=dtype, seed=7)`` makes before it runs a kernel."""
    return Trial(norm, dtype, None, 7, {})
