"""What is wrong with a kernel, and where: the shortest sentence that its results bear out.

evidence    the results of every call beside the expected ones, with indices and traits
places      the index condition and the condition on the case that separate wrong from right
fitting     terms of the equations fitted to what came back, factors recognised by name
measured    rough reciprocal roots and dropped elements, which no formula predicts
findings    faults of the grammar tried against the evidence, the likeliest said first
"""

from .findings import diagnose

__all__ = ["diagnose"]
