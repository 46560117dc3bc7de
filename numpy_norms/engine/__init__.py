"""Large arrays, tile by tile: plans, sums, threads, rounding. No normalization in it."""
