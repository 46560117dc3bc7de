"""Why each mutant that survives the tests does so.

The key is a part of the changed line. True stands for a change that no result shows.
"""

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
    "FAR ** FAR": (True, "Two squared is two times two."),
    "far = (pivot * pivot) >": (True, ORDER),
    "a.pivot is None and b.pivot is None": (True, BOTH),
    "b.pivot is None or b.pivot is None": (True, BOTH),
    "a.pivot is None or a.pivot is None": (True, BOTH),
    "FAR * FAR * var": (True, ORDER),
    "np.abs((rest - first)) <=": (False, SMALL),
    "np.abs(first)": (False, SMALL),
}
