"""Kernels on other arrays than NumPy's, in the form that `check_kernel` takes.

    torch_kernel    functions of PyTorch tensors on any device; gradients by autograd or by hand
    jax_kernel      functions of JAX arrays, compiled once for each shape
    dlpack_kernel   functions of arrays that speak DLPack
    c_kernel        C functions of pointers and sizes, by ctypes

Each returns ``(forward, backward)``; a package is imported when its adapter is called.
"""

from .c import c_kernel
from .dlpack import dlpack_kernel
from .jax import jax_kernel
from .torch import torch_kernel

__all__ = ["c_kernel", "dlpack_kernel", "jax_kernel", "torch_kernel"]
