"""What each framework means by each norm, as data; `convert` and `state` use it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .. import checks


class Convention(NamedTuple):
    """One norm of one framework, as it is without options. None: not said, or not there.

    `eps` is added inside the root, to the variance, or outside, to the standard deviation.
    `gamma`, `beta`, `running_mean` and `running_var` are the framework's names for ours. `shape` is
    that of gamma and beta: C channels, found on `channel_axis`, or D, the normalized features.
    `momentum` weighs the new or the old value when running statistics are updated, and
    `estimator` is the variance that they average: biased (sum / n) or unbiased (sum / (n - 1)).
    """

    framework: str
    norm: str
    eps: float | None
    eps_place: Literal["inside", "outside"] | None
    gamma: str | None
    beta: str | None
    shape: str | None
    channel_axis: int | None = None
    momentum: float | None = None
    momentum_weighs: Literal["new", "old"] | None = None
    estimator: Literal["biased", "unbiased"] | None = None
    running_mean: str | None = None
    running_var: str | None = None

    @property
    def separator(self) -> str:
        """What stands between the parts of a name."""
        return _SEPARATORS.get(self.framework, ".")

    @property
    def names(self) -> dict[str, str]:
        """The framework's name for each parameter that it has: ours -> theirs."""
        pairs = {
            "gamma": self.gamma,
            "beta": self.beta,
            "running_mean": self.running_mean,
            "running_var": self.running_var,
        }
        return {ours: theirs for ours, theirs in pairs.items() if theirs is not None}


_SEPARATORS = {"keras": "/", "flax": "/", "tensorflow1": "/", "chainer": "/", "caffe": "/"}
_SEPARATORS |= {"mxnet": "_", "darknet": "/"}

# finfo(float32).eps: what eps=None means to PyTorch's RMS norm (pytorch#142848).
_FLOAT32_EPS = 2.0**-23

# fmt: off
CONVENTIONS = (
    # PyTorch 2.13. Layer and RMS norm: the shape is normalized_shape.
    Convention("pytorch", "batch_norm", 1e-5, "inside", "weight", "bias", "C", 1,
               0.1, "new", "unbiased", "running_mean", "running_var"),
    Convention("pytorch", "layer_norm", 1e-5, "inside", "weight", "bias", "D"),
    Convention("pytorch", "group_norm", 1e-5, "inside", "weight", "bias", "C", 1),
    Convention("pytorch", "instance_norm", 1e-5, "inside", "weight", "bias", "C", 1),
    Convention("pytorch", "rms_norm", _FLOAT32_EPS, "inside", "weight", None, "D"),
    # Keras 3.15. Its instance norm is GroupNormalization(groups=-1).
    Convention("keras", "batch_norm", 1e-3, "inside", "gamma", "beta", "C", -1,
               0.99, "old", "biased", "moving_mean", "moving_variance"),
    Convention("keras", "layer_norm", 1e-3, "inside", "gamma", "beta", "D"),
    Convention("keras", "group_norm", 1e-3, "inside", "gamma", "beta", "C", -1),
    Convention("keras", "instance_norm", 1e-3, "inside", "gamma", "beta", "C", -1),
    Convention("keras", "rms_norm", 1e-6, "inside", "scale", None, "D"),
    # Flax 0.12, linen. Statistics live in the collection batch_stats, the rest in params.
    Convention("flax", "batch_norm", 1e-5, "inside", "scale", "bias", "C", -1,
               0.99, "old", "biased", "mean", "var"),
    Convention("flax", "layer_norm", 1e-6, "inside", "scale", "bias", "D"),
    Convention("flax", "group_norm", 1e-6, "inside", "scale", "bias", "C", -1),
    Convention("flax", "instance_norm", 1e-6, "inside", "scale", "bias", "C", -1),
    Convention("flax", "rms_norm", 1e-6, "inside", "scale", None, "D"),
    # ONNX 1.23: opsets 15, 17, 21, 22, 23, 13. Names are those of the inputs.
    Convention("onnx", "batch_norm", 1e-5, "inside", "scale", "B", "C", 1,
               0.9, "old", "biased", "input_mean", "input_var"),
    Convention("onnx", "layer_norm", 1e-5, "inside", "Scale", "B", "D"),
    Convention("onnx", "group_norm", 1e-5, "inside", "scale", "bias", "C", 1),
    Convention("onnx", "instance_norm", 1e-5, "inside", "scale", "B", "C", 1),
    Convention("onnx", "rms_norm", 1e-5, "inside", "scale", None, "D"),
    Convention("onnx", "mean_variance_norm", 1e-9, "outside", None, None, None),
    # TensorFlow 1: tf.layers.batch_normalization, and the layer norm of tf.contrib and of BERT.
    Convention("tensorflow1", "batch_norm", 1e-3, "inside", "gamma", "beta", "C", -1,
               0.99, "old", "biased", "moving_mean", "moving_variance"),
    Convention("tensorflow1", "layer_norm", 1e-12, "inside", "gamma", "beta", "D"),
    Convention("tensorflow1", "group_norm", 1e-6, "inside", "gamma", "beta", "C", -1),
    Convention("tensorflow1", "instance_norm", 1e-6, "inside", "gamma", "beta", "C", -1),
    # Paddle 2: as PyTorch, but for momentum and the running variance.
    Convention("paddle", "batch_norm", 1e-5, "inside", "weight", "bias", "C", 1,
               0.9, "old", "biased", "_mean", "_variance"),
    Convention("paddle", "layer_norm", 1e-5, "inside", "weight", "bias", "D"),
    Convention("paddle", "group_norm", 1e-5, "inside", "weight", "bias", "C", 1),
    Convention("paddle", "instance_norm", 1e-5, "inside", "scale", "bias", "C", 1),
    # MXNet 1: symbols, in whose batch norm gamma may be fixed to 1; and Gluon.
    Convention("mxnet", "batch_norm", 1e-3, "inside", "gamma", "beta", "C", 1,
               0.9, "old", "biased", "moving_mean", "moving_var"),
    Convention("mxnet", "layer_norm", 1e-5, "inside", "gamma", "beta", "D"),
    Convention("mxnet", "group_norm", 1e-5, "inside", "gamma", "beta", "C", 1),
    Convention("mxnet", "instance_norm", 1e-3, "inside", "gamma", "beta", "C", 1),
    Convention("gluon", "batch_norm", 1e-5, "inside", "gamma", "beta", "C", 1,
               0.9, "old", "biased", "running_mean", "running_var"),
    Convention("gluon", "layer_norm", 1e-5, "inside", "gamma", "beta", "D"),
    Convention("gluon", "group_norm", 1e-5, "inside", "gamma", "beta", "C", 1),
    Convention("gluon", "instance_norm", 1e-5, "inside", "gamma", "beta", "C", 1),
    # Caffe 1: blobs by number, of which the third, the sum of all weights so far, divides mean and
    # variance: an average without a first value. gamma and beta are another layer's, Scale.
    Convention("caffe", "batch_norm", 1e-5, "inside", None, None, "C", 1,
               None, None, "unbiased", "0", "1"),
    # Darknet, on a CPU; training normalizes with the unbiased variance, too.
    Convention("darknet", "batch_norm", 1e-6, "outside", "scales", "biases", "C", 1,
               0.99, "old", "unbiased", "rolling_mean", "rolling_variance"),
    # Chainer 7.8, links.
    Convention("chainer", "batch_norm", 2e-5, "inside", "gamma", "beta", "C", 1,
               0.9, "old", "unbiased", "avg_mean", "avg_var"),
    Convention("chainer", "layer_norm", 1e-6, "inside", "gamma", "beta", "D"),
    Convention("chainer", "group_norm", 1e-5, "inside", "gamma", "beta", "C", 1),
    # MLX; its running variance is unbiased since mlx#3817.
    Convention("mlx", "batch_norm", 1e-5, "inside", "weight", "bias", "C", -1,
               0.1, "new", "unbiased", "running_mean", "running_var"),
    Convention("mlx", "layer_norm", 1e-5, "inside", "weight", "bias", "D"),
    Convention("mlx", "group_norm", 1e-5, "inside", "weight", "bias", "C", -1),
    Convention("mlx", "instance_norm", 1e-5, "inside", "weight", "bias", "C", -1),
    Convention("mlx", "rms_norm", 1e-5, "inside", "weight", None, "D"),
    # burn.
    Convention("burn", "batch_norm", 1e-5, "inside", "gamma", "beta", "C", 1,
               0.1, "new", "unbiased", "running_mean", "running_var"),
    Convention("burn", "layer_norm", 1e-5, "inside", "gamma", "beta", "D"),
    Convention("burn", "group_norm", 1e-5, "inside", "gamma", "beta", "C", 1),
    Convention("burn", "instance_norm", 1e-5, "inside", "gamma", "beta", "C", 1),
    Convention("burn", "rms_norm", 1e-5, "inside", "gamma", None, "D"),
    # candle, whose group and RMS norm have no default eps.
    Convention("candle", "batch_norm", 1e-5, "inside", "weight", "bias", "C", 1,
               0.1, "new", "unbiased", "running_mean", "running_var"),
    Convention("candle", "layer_norm", 1e-5, "inside", "weight", "bias", "D"),
    Convention("candle", "group_norm", None, "inside", "weight", "bias", "C", 1),
    Convention("candle", "rms_norm", None, "inside", "weight", None, "D"),
    # The papers: arXiv:1502.03167, 1607.06450, 1803.08494, 1607.08022, 1910.07467. The first
    # multiplies the average of the batches' biased variances by m / (m - 1).
    Convention("paper", "batch_norm", None, "inside", "gamma", "beta", "C", 1,
               None, None, "unbiased", "E[x]", "Var[x]"),
    Convention("paper", "layer_norm", None, None, "g", "b", "D"),
    Convention("paper", "group_norm", None, "inside", "gamma", "beta", "C", 1),
    Convention("paper", "instance_norm", None, "inside", None, None, None),
    Convention("paper", "rms_norm", None, None, "g", None, "D"),
)
# fmt: on

_TABLE = {(c.framework, c.norm): c for c in CONVENTIONS}
_FRAMEWORKS = tuple(dict.fromkeys(c.framework for c in CONVENTIONS))


def convention(framework: str, norm: str) -> Convention:
    """Return what `framework` means by `norm`.

    Parameters
    ----------
    framework : str
        Whose convention: ``"pytorch"``, ``"keras"``, ``"flax"``, ``"onnx"``, ``"tensorflow1"``,
        ``"paddle"``, ``"mxnet"``, ``"gluon"``, ``"caffe"``, ``"darknet"``, ``"chainer"``,
        ``"mlx"``, ``"burn"``, ``"candle"``, or ``"paper"``.
    norm : str
        ``"batch_norm"``, ``"layer_norm"``, ``"group_norm"``, ``"instance_norm"``, ``"rms_norm"``.

    Returns
    -------
    Convention
        eps and its place, momentum and its meaning, names and shapes.

    Raises
    ------
    ValueError
        If there is no such framework, or the framework has no such norm.

    Examples
    --------
    >>> from numpy_norms.conventions import convention
    >>> convention("onnx", "mean_variance_norm").eps_place
    'outside'
    """
    checks.choice("framework", framework, _FRAMEWORKS)
    if not isinstance(norm, str) or (framework, norm) not in _TABLE:
        known = ", ".join(repr(c.norm) for c in CONVENTIONS if c.framework == framework)
        raise ValueError(
            f"norm is {checks.shown(norm)}, which {framework} does not have; pass one of {known}"
        )
    return _TABLE[framework, norm]
