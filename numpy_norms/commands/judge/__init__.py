"""The command ``judge``: a PyTorch module, as kernel benchmarks ask for, against this library."""
