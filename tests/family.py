"""The norms of `further/` that have several arguments or options, as parameters of tests.

All sizes of a shape differ, so that no axis can be taken for another unnoticed. The expected values
are the definitions, written in PyTorch's operations and differentiated by it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from each import each

import numpy_norms


@dataclass(frozen=True)
class Member:
    """A norm on one shape: its arguments, how many of the first have gradients, its options."""

    name: str
    shape: tuple[int, ...]
    options: dict[str, Any]

    @property
    def axes(self):
        """Return the channel axes, counted from the front."""
        default = 0 if self.name in ("weight_norm", "spectral_norm") else 1
        axis = self.options.get("channel_axis", default)
        return tuple(a % len(self.shape) for a in np.atleast_1d(axis))

    def draw(self, seed=0, *, mean=2.0, dtype=np.float64):
        """Draw the arguments, and a random dy (ones prove nothing)."""
        rng = np.random.default_rng(seed)
        channels = tuple(self.shape[a] for a in self.axes)
        x = mean + 1.5 * rng.standard_normal(self.shape)
        others = {
            "weight_norm": [rng.standard_normal(channels)],
            "spectral_norm": [
                rng.uniform(0.1, 1, channels),
                rng.uniform(0.1, 1, x.size // max(1, np.prod(channels))),
            ],
            "batch_renorm": [
                2 + 4 * rng.standard_normal(channels),
                rng.uniform(0.1, 9, channels),
                *rng.standard_normal((2, *channels)),
            ],
            "global_response_norm": [*rng.standard_normal((2, *channels))],
        }.get(self.name, [])
        dy = rng.standard_normal(self.shape)
        return [a.astype(dtype) for a in (x, *others)], dy.astype(dtype)

    @property
    def differentiable(self):
        """Number the arguments that have gradients."""
        return {
            "weight_norm": (0, 1),
            "batch_renorm": (0, 3, 4),
            "global_response_norm": (0, 1, 2),
        }.get(self.name, (0,))

    def forward(self, *arrays, **options):
        """Call the norm's forward function."""
        return getattr(numpy_norms, f"{self.name}_forward")(*arrays, **{**self.options, **options})

    def both(self, arrays, dy, **options):
        """Run forward and backward; return y and the gradients."""
        y, cache = self.forward(*arrays, **options)
        gradients = getattr(numpy_norms, f"{self.name}_backward")(dy, cache)
        return [y, *(gradients if isinstance(gradients, tuple) else (gradients,))]

    def by_torch(self, arrays, dy):
        """Return y and the gradients of the definition, by PyTorch."""
        leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
        y = DEFINITIONS[self.name](self, *leaves)
        y.backward(torch.tensor(dy))
        return [y.detach().numpy(), *(leaves[i].grad.numpy() for i in self.differentiable)]

    def __str__(self):
        details = "-".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.name}-{'x'.join(map(str, self.shape))}-{details}".replace(" ", "")


def _weight_norm(member, v, g):
    (c,) = member.axes
    rows = v.movedim(c, 0)
    norms = torch.linalg.vector_norm(rows.flatten(1) if v.ndim > 1 else rows[:, None], dim=1)
    return ((g / norms).reshape(-1, *[1] * (v.ndim - 1)) * rows).movedim(0, c)


def _spectral_norm(member, weight, u, v):
    (c,) = member.axes
    matrix = weight.movedim(c, 0).flatten(1)
    return weight / torch.dot(u.detach(), torch.mv(matrix, v.detach()))


def _batch_renorm(member, x, running_mean, running_var, gamma, beta):
    axes, options = member.axes, member.options
    last = tuple(range(-len(axes), 0))
    rows = x.movedim(axes, last)
    over = tuple(range(x.ndim - len(axes)))
    var, mean = torch.var_mean(rows, over, correction=0)
    eps = options.get("eps", 1e-5)
    sigma, running_sigma = (var + eps).sqrt(), (running_var + eps).sqrt()
    r_max, d_max = options.get("r_max", 3.0), options.get("d_max", 5.0)
    r = (sigma / running_sigma).clamp(1 / r_max, r_max).detach()
    d = ((mean - running_mean) / running_sigma).clamp(-d_max, d_max).detach()
    return (gamma * ((rows - mean) / sigma * r + d) + beta).movedim(last, axes)


def _global_response_norm(member, x, gamma, beta):
    (c,) = member.axes
    rows = x.movedim(c, -1)  # channels last, as in ConvNeXt V2
    over = tuple(range(1, x.ndim - 1))
    sizes = torch.linalg.vector_norm(rows, dim=over, keepdim=True) if over else rows.abs()
    n = sizes / (sizes.mean(dim=-1, keepdim=True) + member.options.get("eps", 1e-6))
    return (gamma * (rows * n) + beta + rows).movedim(-1, c)


def _lp_normalize(member, x):
    options = {"p": 2.0, "axis": -1, "eps": 1e-12, **member.options}
    p, axis, eps = (options[name] for name in ("p", "axis", "eps"))
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    if options["eps_place"] == "outside":
        return x / (norm + eps)
    return x / ((x.abs() ** p).sum(axis, keepdim=True) + eps) ** (1 / p)


def _local_response_norm(member, x):
    """Average over the window, whole or not, as Caffe's pooling does."""
    size, alpha, beta, k = (member.options[name] for name in ("size", "alpha", "beta", "k"))
    axes = member.options["axis"]
    rows = (x * x).movedim(axes, tuple(range(-len(axes), 0)))
    pool = [torch.nn.functional.avg_pool2d, torch.nn.functional.avg_pool3d][len(axes) - 2]
    pad = [size // 2, (size - 1) // 2] * len(axes)
    flat = torch.nn.functional.pad(rows.reshape(-1, 1, *rows.shape[-len(axes) :]), pad)
    mean = pool(flat, size, stride=1).reshape(rows.shape)
    return x / (k + alpha * mean.movedim(tuple(range(-len(axes), 0)), axes)) ** beta


DEFINITIONS = {
    "weight_norm": _weight_norm,
    "spectral_norm": _spectral_norm,
    "batch_renorm": _batch_renorm,
    "global_response_norm": _global_response_norm,
    "lp_normalize": _lp_normalize,
    "local_response_norm": _local_response_norm,
}
LETTERS = {"alpha": 0.7, "beta": 0.6, "k": 1.3}
NARROW = {"r_max": 1.5, "d_max": 0.7}

MEMBERS = [
    Member("weight_norm", (5, 3, 4), {}),
    Member("weight_norm", (5, 3, 4), {"channel_axis": 1}),
    Member("weight_norm", (2, 3, 4), {"channel_axis": -1}),
    Member("spectral_norm", (5, 3, 4), {}),
    Member("spectral_norm", (5, 3, 4), {"channel_axis": 1}),
    Member("spectral_norm", (2, 3, 4), {"channel_axis": -1}),
    Member("spectral_norm", (6, 1), {}),
    Member("batch_renorm", (7, 3), NARROW),
    Member("batch_renorm", (4, 3, 5, 2), NARROW),
    Member("batch_renorm", (4, 3, 5), {**NARROW, "channel_axis": -1}),
    Member("batch_renorm", (4, 3, 5, 2), {**NARROW, "channel_axis": (1, 3)}),
    Member("batch_renorm", (4, 3, 5), {"r_max": np.inf, "d_max": np.inf}),
    Member("global_response_norm", (4, 3, 5, 2), {"eps": 0.3}),
    Member("global_response_norm", (4, 3, 5, 6), {"channel_axis": -1}),
    Member("global_response_norm", (4, 3, 5), {"channel_axis": 0}),
    Member("global_response_norm", (4, 3), {}),
    Member("global_response_norm", (4, 1, 3), {}),
    *[
        Member("lp_normalize", (4, 3, 5), {"p": p, "axis": axis, "eps": 0.8, "eps_place": place})
        for p, axis in [(2, 1), (3, -1), (1, (0, 2)), (0.5, 1), (0.05, 1), (-1.5, 0)]
        for place in ("outside", "inside")
    ],
    Member("lp_normalize", (4, 3, 5), {"p": np.inf, "eps": 0.8, "eps_place": "outside"}),
    Member("lp_normalize", (4, 3, 5), {"p": 0, "eps": 0.8, "eps_place": "outside"}),
    Member("local_response_norm", (2, 3, 6, 5), {"size": 3, "axis": (2, 3), **LETTERS}),
    Member("local_response_norm", (2, 3, 6, 5), {"size": 4, "axis": (0, 2), **LETTERS}),
    Member("local_response_norm", (2, 3, 4, 5), {"size": 2, "axis": (1, 2, 3), **LETTERS}),
    Member("local_response_norm", (1, 1, 6, 7), {"size": 9, "axis": (2, 3), **LETTERS}),
]


def parametrize(members):
    """Run a test on one member after the other."""
    return each("member", members)
