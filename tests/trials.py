"""The batteries of `check_kernel`: each made once for all kernels that are tried on it."""

from functools import cache

from numpy_norms.verify.kernel import Trial


@cache
def trial(norm, dtype="float32", *, shapes=None, threads=2, accumulate=None, **options):
    """Return what ``check_kernel(norm, dtype=dtype, seed=7)`` makes before it runs a kernel."""
    return Trial(norm, dtype, accumulate, 7, options, threads=threads, shapes=shapes)


def small(norm, dtype="float32", **options):
    """Return a trial on two small shapes, for what does not depend on the size."""
    return trial(norm, dtype, shapes=((5, 7, 13), (3, 40)), threads=0, **options)
