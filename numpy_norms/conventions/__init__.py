"""What other frameworks mean by the same words, and how to bring their networks here.

>>> from numpy_norms import conventions
>>> keras = conventions.convention("keras", "batch_norm")
>>> keras.eps, keras.momentum, keras.momentum_weighs, keras.estimator
(0.001, 0.99, 'old', 'biased')
"""

from .convert import convert_momentum, convert_running_var, update_options
from .state import load, read_state
from .table import CONVENTIONS, Convention, convention

__all__ = [
    "CONVENTIONS",
    "Convention",
    "convention",
    "convert_momentum",
    "convert_running_var",
    "load",
    "read_state",
    "update_options",
]
