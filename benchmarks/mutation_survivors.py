"""Why each mutant that survives the tests does so.

The key is a part of the changed line. True stands for a change that no result shows.
"""

ALWAYS = "The rest is subtracted always: as exact, for two passes over the data more."
THRESHOLD = "Errors of an average are a few roundoffs; nothing lies so near to the threshold."
ORDER = "NumPy compares complex numbers by their real parts first, which differ."
SMALL = "Shows only where imaginary parts are as large as real ones; a complex step has tiny ones."
BOTH = "The pieces of a set both have a pivot, or neither has."

WHY: dict[str, tuple[bool, str]] = {
    "<= 1023 *": (True, THRESHOLD),
    "<= 1025 *": (True, THRESHOLD),
    "< 1024 *": (True, THRESHOLD),
    "np.subtract(x, pivot, out=out)": (
        True,
        "NumPy takes the type from `pivot` and `out`, which have the working dtype anyway.",
    ),
    "lost = (rest * rest) >": (True, ORDER),
    ".real >= precision": (
        True,
        "Equal only where both are zero, and then the rest that is subtracted is zero.",
    ),
    ".real is not precision": (False, ALWAYS),
    ".real != precision": (False, ALWAYS),
    "a.pivot is None and b.pivot is None": (True, BOTH),
    "b.pivot is None or b.pivot is None": (True, BOTH),
    "a.pivot is None or a.pivot is None": (True, BOTH),
    "precision * precision * var": (True, ORDER),
    "np.abs((rest - first)) <=": (False, SMALL),
    "np.abs(first)": (False, SMALL),
}
