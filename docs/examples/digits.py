"""A convolutional network in plain NumPy that reads digits, with and without batch norm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy_norms as nn
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from tqdm import tqdm

Array = NDArray[Any]


class Layer(Protocol):
    """A layer keeps what its backward pass needs, and the gradients of its parameters."""

    parameters: dict[str, Array]
    gradients: dict[str, Array]

    def forward(self, x: Array, training: bool) -> Array: ...
    def backward(self, dy: Array) -> Array: ...


class Conv:
    """A 3 x 3 convolution of (N, C, H, W), padded with zeros."""

    def __init__(self, weight: Array, bias: Array | None, stride: int = 1):
        self.parameters = {"weight": weight}  # (C out, C in, 3, 3)
        if bias is not None:
            self.parameters["bias"] = bias
        self.stride = stride

    def forward(self, x: Array, training: bool) -> Array:
        """Multiply every window of x by the weight."""
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        n, c, self.height, self.width = windows.shape[:4]
        columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, c * 9)
        self.columns, self.shape = columns, x.shape
        weight = self.parameters["weight"]
        y = columns @ weight.reshape(len(weight), -1).T
        y += self.parameters.get("bias", 0)
        return y.reshape(n, self.height, self.width, -1).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        """Send dy back through every window."""
        weight = self.parameters["weight"]
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, len(weight))
        self.gradients = {
            "weight": (rows.T @ self.columns).reshape(weight.shape)
        }
        if "bias" in self.parameters:
            self.gradients["bias"] = rows.sum(axis=0)
        n, c, h, w = self.shape
        dcolumns = rows @ weight.reshape(len(weight), -1)
        dwindows = dcolumns.reshape(n, self.height, self.width, c, 3, 3)
        dx = np.zeros((n, h + 2, w + 2, c), dy.dtype)
        for i in range(3):
            for j in range(3):
                down = slice(i, i + self.stride * self.height, self.stride)
                right = slice(j, j + self.stride * self.width, self.stride)
                dx[:, down, right] += dwindows[..., i, j]
        return dx[:, 1:-1, 1:-1].transpose(0, 3, 1, 2)


class BatchNorm:
    """Batch norm of this library, with running statistics for inference."""

    def __init__(self, channels: int, dtype: Any = np.float32):
        self.parameters = {
            "gamma": np.ones(channels, dtype),
            "beta": np.zeros(channels, dtype),
        }
        self.running_mean = np.zeros(channels, dtype)
        self.running_var = np.ones(channels, dtype)

    def forward(self, x: Array, training: bool) -> Array:
        """Normalize by the batch in training, by the running statistics otherwise."""
        running = self.running_mean, self.running_var
        if not training:
            return nn.batch_norm_inference_forward(
                x, *running, **self.parameters
            )[0]
        y, self.cache = nn.batch_norm_forward(x, **self.parameters)
        self.running_mean, self.running_var = nn.update_running_stats(
            *running, self.cache
        )
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx; keep dgamma and dbeta."""
        dx, dgamma, dbeta = nn.batch_norm_backward(dy, self.cache)
        self.gradients = {"gamma": dgamma, "beta": dbeta}
        return dx


class Relu:
    """Keep what is positive."""

    parameters: dict[str, Array] = {}  # noqa: RUF012
    gradients: dict[str, Array] = {}  # noqa: RUF012

    def forward(self, x: Array, training: bool) -> Array:
        """Set negative numbers to zero."""
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy: Array) -> Array:
        """Pass on what was passed on."""
        return dy * self.positive


class Linear:
    """A linear map of everything that an image has become."""

    def __init__(self, weight: Array, bias: Array):
        self.parameters = {"weight": weight, "bias": bias}  # (outputs, inputs)

    def forward(self, x: Array, training: bool) -> Array:
        """Return one score for each digit."""
        self.shape, self.rows = x.shape, x.reshape(len(x), -1)
        return self.rows @ self.parameters["weight"].T + self.parameters["bias"]

    def backward(self, dy: Array) -> Array:
        """Return dx; keep the gradients of weight and bias."""
        self.gradients = {"weight": dy.T @ self.rows, "bias": dy.sum(axis=0)}
        return (dy @ self.parameters["weight"]).reshape(self.shape)


class Digits(NamedTuple):
    """Images (N, 1, 8, 8) and what they show."""

    x: Array
    labels: Array


def load_data(seed: int = 0) -> tuple[Digits, Digits]:
    """Return 1437 digits to learn from and 360 to be tested on."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    x = (digits.images[order, np.newaxis] / 16).astype(np.float32)
    labels = digits.target[order]
    return Digits(x[360:], labels[360:]), Digits(x[:360], labels[:360])


def build(
    batch_norm: bool, seed: int = 0, dtype: Any = np.float32
) -> list[Layer]:
    """Return three convolutions and a linear map; a norm makes a convolution's bias useless."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        inputs = math.prod(shape[1:])
        return (rng.standard_normal(shape) * math.sqrt(2 / inputs)).astype(
            dtype
        )

    layers: list[Layer] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 2)):
        bias = None if batch_norm else np.zeros(outputs, dtype)
        layers.append(Conv(draw(outputs, inputs, 3, 3), bias, stride))
        if batch_norm:
            layers.append(BatchNorm(outputs, dtype))
        layers.append(Relu())
    layers.append(Linear(draw(10, 32 * 2 * 2), np.zeros(10, dtype)))
    return layers


def scores(layers: list[Layer], x: Array, *, training: bool = False) -> Array:
    """Return the network's outputs, ten for each image."""
    for layer in layers:
        x = layer.forward(x, training)
    return x


def loss_and_gradient(y: Array, labels: Array) -> tuple[float, Array]:
    """Return the cross-entropy and its gradient; the loss's own 1 / N is in it."""
    shifted = y - y.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(y))
    dy = np.exp(log_p)
    dy[rows, labels] -= 1
    return float(-log_p[rows, labels].mean()), dy / len(y)


def backward(layers: list[Layer], dy: Array) -> None:
    """Leave the gradients of all parameters in the layers."""
    for layer in reversed(layers):
        dy = layer.backward(dy)


def batches(
    data: Digits, size: int, rng: np.random.Generator
) -> Iterator[Digits]:
    """Yield the data in a new order, without the last incomplete batch."""
    order = rng.permutation(len(data.labels))
    for start in range(0, len(order) - size + 1, size):
        part = order[start : start + size]
        yield Digits(data.x[part], data.labels[part])


def train(
    layers: list[Layer],
    data: Digits,
    *,
    epochs: int = 8,
    rate: float = 0.03,
    size: int = 64,
    seed: int = 0,
    hide_progress: bool | None = None,
) -> list[float]:
    """Train by gradient descent with momentum 0.9; return the loss of every step.

    The progress bar appears on a terminal only, unless `hide_progress` is False.
    """
    rng = np.random.default_rng(seed)
    velocity = [
        {k: np.zeros_like(p) for k, p in layer.parameters.items()}
        for layer in layers
    ]
    losses: list[float] = []
    steps = epochs * (len(data.labels) // size)
    # Threads only wait for each other over matrices as small as these.
    with threadpool_limits(1), tqdm(total=steps, disable=hide_progress) as bar:
        for _ in range(epochs):
            for batch in batches(data, size, rng):
                y = scores(layers, batch.x, training=True)
                loss, dy = loss_and_gradient(y, batch.labels)
                backward(layers, dy)
                for layer, speed in zip(layers, velocity, strict=True):
                    for name, parameter in layer.parameters.items():
                        speed[name] = 0.9 * speed[name] + layer.gradients[name]
                        parameter -= rate * speed[name]
                losses.append(loss)
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
    return losses


def accuracy(layers: list[Layer], data: Digits) -> float:
    """Return the share of digits that are read right."""
    return float(np.mean(scores(layers, data.x).argmax(axis=1) == data.labels))


def fold(layers: list[Layer]) -> list[Layer]:
    """Return a network without batch norm that computes what this one does in inference."""
    folded: list[Layer] = []
    for layer in layers:
        if isinstance(layer, BatchNorm):
            conv = folded.pop()
            weight, bias = nn.fold_batch_norm(
                conv.parameters["weight"],
                conv.parameters.get("bias"),
                layer.running_mean,
                layer.running_var,
                **layer.parameters,
            )
            layer = Conv(weight, bias, conv.stride)
        folded.append(layer)
    return folded
