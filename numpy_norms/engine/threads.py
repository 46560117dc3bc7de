"""placeholder"""

from numpy_norms.threads import get_num_threads
from numpy_norms import threads as _t


def in_threads(visit, items, *, alone=False):
    if alone:
        for i in items:
            visit(i)
    else:
        _t.in_threads(visit, list(items))
