"""Norms and moments of Dask arrays: lazy, chunk by chunk, never the whole array in one place.

::

    import dask.array as da
    from numpy_norms.dask import batch_norm, moments

    x = da.from_array(np.load("x.npy", mmap_mode="r"), chunks=(1000, -1))
    m = moments(x, axis=0).compute()
    y = batch_norm(x)  # of one chunk after another, when it is asked for

Where a set lies in one chunk, as the features of a token mostly do, its chunk is normalized alone.
Otherwise statistics of chunks are merged by a tree, and `x` is computed once more when they are
known: it is read, or made, twice, and not kept. The extra ``dask`` brings Dask.
"""

from .arrays import batch_norm, layer_norm, moments, rms_norm

__all__ = ["batch_norm", "layer_norm", "moments", "rms_norm"]
