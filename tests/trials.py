"""The batteries of `check_kernel`: each made once for all kernels that are tried on it."""

from functools import cache

from numpy_norms.verify.kernel import Trial


@cache
def trial(norm, dtype="float32", accumulate=None, **more):
    """Return what ``check_kernel(norm, dtype=dtype, seed=7)`` makes before it runs a kernel."""
    axes = {name: more.pop(name) for name in ("axis", "channel_axis") if name in more}
    return Trial(norm, dtype, accumulate, 7, axes, **more)


def without_large(norm, dtype="float32", **options):
    """Return a trial on all cases but the large ones, for what smaller ones show."""
    return trial(norm, dtype, threads=0, most=20_000, **options)


def small(norm, dtype="float32", **options):
    """Return a trial on two small shapes, for what does not depend on the size."""
    return trial(norm, dtype, shapes=((5, 7, 13), (3, 40)), threads=0, **options)
