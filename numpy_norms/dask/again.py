"""An array once more: the same chunks by other names, so that Dask makes them a second time."""

from __future__ import annotations

import dask.array as da
from dask import optimize
from dask._task_spec import convert_legacy_graph
from dask.base import clone_key, tokenize
from dask.highlevelgraph import HighLevelGraph


def again(x: da.Array) -> da.Array:
    """The same array, which shares no task with `x`.

    What is computed from both is computed twice, and no chunk is kept in between, as Dask keeps
    what is needed later. (`dask.graph_manipulation.clone` is to do this, but what it makes of a
    rechunked array still has tasks of the first one: Dask 2026.8.)
    """
    (x,) = optimize(x)
    graph = convert_legacy_graph(dict(x.__dask_graph__()))
    seed = tokenize(x.name, "again")
    names = {key: clone_key(key, seed) for key in graph}
    copy = {names[key]: task.substitute(names, key=names[key]) for key, task in graph.items()}
    name = clone_key(x.name, seed)
    layers = HighLevelGraph.from_collections(name, copy)
    return da.Array(layers, name, x.chunks, meta=x._meta)
