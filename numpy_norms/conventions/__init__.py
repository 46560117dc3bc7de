"""What other frameworks mean by the same words, and how to bring their networks here.

>>> from numpy_norms import conventions
>>> keras = conventions.convention("keras", "batch_norm")
>>> keras.eps, keras.momentum, keras.momentum_weighs, keras.estimator
(0.001, 0.99, 'old', 'biased')
"""

from .configs import eps_from_config
from .convert import convert_momentum, convert_running_var, update_options
from .norms import FoundNorm, norms_in
from .read import State, read_state
from .state import load
from .table import CONVENTIONS, Convention, convention

__all__ = [
    "CONVENTIONS",
    "Convention",
    "FoundNorm",
    "State",
    "convention",
    "convert_momentum",
    "convert_running_var",
    "eps_from_config",
    "load",
    "norms_in",
    "read_state",
    "update_options",
]
