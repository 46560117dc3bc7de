"""Why each mutant that survives the tests does so.

The key is a part of the changed line. True stands for a change that no result shows.
"""

PLACE = "It is computed in scratch and rounded into the result, instead of in its place."

WHY: dict[str, tuple[bool, str]] = {
    "lifted = tile.lift(x, pivot, exponent)": (True, PLACE),
    "lifted = tile.lift(x, pivot)": (True, PLACE),
    "upstream = tile.lift(dy)": (True, PLACE),
    "eq.parameter_gradients(upstream, xc, tile.B, tile.G)": (
        True,
        "In inference both sums are asked for, in the same dtype: they are one function.",
    ),
}
