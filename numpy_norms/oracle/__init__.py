"""The norms in 106-bit arithmetic: what the library is measured against."""
