"""Why each mutant that survives the tests does so.

The key is a part of the changed line. True stands for a change that no result shows.
"""

PLACE = "It is computed in scratch and rounded into the result, instead of in its place."

WHY: dict[str, tuple[bool, str]] = {
    "x = tile.lift(x_view, pivot, exponent)": (True, PLACE),
    "x = tile.lift(x_view, pivot)": (True, PLACE),
    "dy = tile.lift(dy_view)": (True, PLACE),
    "eq.parameter_gradients(dy, xc, tile.B, tile.G)": (
        True,
        "In inference both sums are asked for, in the same dtype: they are one function.",
    ),
}
