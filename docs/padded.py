"""A padded batch of sequences: which tokens the output at one token depends on."""

from __future__ import annotations

from functools import partial
from typing import Any

import matplotlib
import numpy as np
import numpy_norms as nn
from matplotlib.colors import to_rgba
from numpy.typing import NDArray

from drawing import BLUE, GRAY, INK, STYLE, Picture, canvas

LENGTHS = np.array([9, 4, 6, 2])
COUNTS = np.arange(9) < LENGTHS[:, None]  # (N, T)
TOKEN = (2, 1)
WHERE = COUNTS[..., None]  # for x of shape (N, T, C)

NORMS = {
    "batch norm": (
        partial(nn.batch_norm_forward, channel_axis=-1),
        nn.batch_norm_backward,
    ),
    "batch norm, where": (
        partial(nn.batch_norm_forward, channel_axis=-1, where=WHERE),
        nn.batch_norm_backward,
    ),
    "instance norm, where": (
        partial(nn.instance_norm_forward, channel_axis=-1, where=WHERE),
        nn.instance_norm_backward,
    ),
    "layer norm, last axis": (nn.layer_norm_forward, nn.layer_norm_backward),
}


def reach(forward: Any, backward: Any) -> NDArray[np.bool_]:
    """Say for each token whether the output at TOKEN depends on it."""
    x = np.random.default_rng(0).normal(size=(*COUNTS.shape, 3))
    dy = np.zeros(x.shape)
    dy[TOKEN] = [1.0, 2.0, -2.0]
    dx = backward(dy, forward(x)[1])[0]
    found: NDArray[np.bool_] = (dx != 0).any(axis=-1)
    return found


def padded_batch() -> Picture:
    """Draw sequences as rows of tokens, for each norm what one token's output depends on."""
    figure, axes = canvas(6.6, 3.6, 2, 2)
    with matplotlib.rc_context(STYLE):
        for ax, (name, pair) in zip(axes.flat, NORMS.items(), strict=True):
            member = reach(*pair)[..., None]
            ax.pcolormesh(
                np.where(member, to_rgba(BLUE, 0.75), to_rgba(GRAY, 0.08)),
                edgecolors=GRAY,
                linewidth=0.6,
            )
            rows, columns = np.nonzero(~COUNTS)
            ax.plot(columns + 0.5, rows + 0.5, "x", color=INK, markersize=4)
            ax.plot(TOKEN[1] + 0.5, TOKEN[0] + 0.5, "o", color=INK)
            ax.set(title=name, xticks=[], yticks=[], xlabel="T", ylabel="N")
            ax.set_aspect("equal")
            ax.invert_yaxis()
            for spine in ax.spines.values():
                spine.set_visible(False)
    return Picture(
        figure,
        "Four sequences as rows of tokens; crosses mark padding, a dot one token. Blue is what the "
        "output at the dot depends on. Batch norm: all tokens, padding too. With where: all tokens "
        "but the padding. Instance norm with where: the tokens of its own sequence. Layer norm "
        "over the last axis: that token alone.",
        wide=True,
    )
