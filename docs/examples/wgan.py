"""A pair of networks that learns to draw digits: Wasserstein, with a gradient penalty."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp
from autograd import elementwise_grad, grad
from numpy.typing import NDArray
from numpy_norms.autograd import batch_norm, layer_norm
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from tqdm import tqdm

Array = NDArray[Any]
Parameters = list[Array]
Norm = Callable[[Any, Any, Any], Any]

NOISE, WIDTH, PIXELS = 16, 128, 64


def load_data() -> Array:
    """Return 1797 digits of 64 pixels between -1 and 1."""
    pixels: Array = (load_digits().data / 8 - 1).astype(onp.float32)
    return pixels


def build(
    inputs: int,
    outputs: int,
    rng: onp.random.Generator,
    dtype: Any = onp.float32,
) -> Parameters:
    """Return two layers of a weight, a gamma and a beta each, then a weight and a bias."""

    def draw(*shape: int) -> Array:
        return (rng.standard_normal(shape) / math.sqrt(shape[0])).astype(dtype)

    def norm() -> Parameters:
        return [onp.ones(WIDTH, dtype), onp.zeros(WIDTH, dtype)]

    return [
        *(draw(inputs, WIDTH), *norm()),
        *(draw(WIDTH, WIDTH), *norm()),
        *(draw(WIDTH, outputs), onp.zeros(outputs, dtype)),
    ]


def network(p: Parameters, x: Any, norm: Norm) -> Any:
    """Run two layers, each with a norm before what makes it not linear, and a linear map."""
    for weight, gamma, beta in (p[:3], p[3:6]):
        h = norm(x @ weight, gamma, beta)
        x = np.maximum(h, 0.2 * h)
    return x @ p[6] + p[7]


def generate(p: Parameters, noise: Array) -> Any:
    """Make images of noise; batch norm lets the images of a batch see each other."""
    return np.tanh(network(p, noise, batch_norm))


def score(p: Parameters, images: Any) -> Any:
    """Score each image by itself: the penalty is on the slope at one image, so no batch norm."""
    return network(p, images, layer_norm)[:, 0]


def steepness(p: Parameters, images: Any) -> Any:
    """Return how steep the score is at each image: the norm of its gradient."""
    slope = elementwise_grad(score, 1)(p, images)
    return np.sqrt(np.sum(slope**2, axis=1) + 1e-12)


def critic_loss(
    p: Parameters,
    real: Array,
    drawn: Array,
    between: Array,
    weight: float = 10.0,
) -> Any:
    """Return how badly the critic tells the two apart, and the penalty where it is not 1 steep."""
    distance = np.mean(score(p, real)) - np.mean(score(p, drawn))
    return -distance + weight * np.mean((steepness(p, between) - 1) ** 2)


def generator_loss(p: Parameters, critic: Parameters, noise: Array) -> Any:
    """Return what the critic makes of the images."""
    return -np.mean(score(critic, generate(p, noise)))


class Adam:
    """Adam without momentum, as Gulrajani and others train."""

    def __init__(self, p: Parameters, decay: float = 0.9):
        self.squares = [onp.zeros_like(a) for a in p]
        self.decay, self.left = decay, 1.0

    def step(
        self, p: Parameters, gradients: Parameters, rate: float
    ) -> Parameters:
        """Return the parameters after one step."""
        self.left *= self.decay
        for square, d in zip(self.squares, gradients, strict=True):
            square += (1 - self.decay) * (d * d - square)
        seen = 1 - self.left
        return [
            a - rate * d / (onp.sqrt(square / seen) + 1e-8)
            for a, d, square in zip(p, gradients, self.squares, strict=True)
        ]


class Trained(NamedTuple):
    """Both networks, and the critic's estimate of the distance at each step."""

    generator: Parameters
    critic: Parameters
    distances: list[float]


def train(
    data: Array,
    *,
    steps: int = 300,
    critic_steps: int = 3,
    rate: float = 2e-3,
    size: int = 64,
    seed: int = 0,
    hide_progress: bool | None = None,
) -> Trained:
    """Train the critic a few times for each time that the generator is trained."""
    rng = onp.random.default_rng(seed)
    generator, critic = build(NOISE, PIXELS, rng), build(PIXELS, 1, rng)
    improve, judge = Adam(generator), Adam(critic)
    distances = []

    def noise() -> Array:
        return rng.standard_normal((size, NOISE), dtype=onp.float32)

    # Threads only wait for each other over matrices as small as these.
    with threadpool_limits(1):
        for step in tqdm(range(steps), disable=hide_progress):
            slower = rate * (1 - step / steps)
            for _ in range(critic_steps):
                real, drawn = (
                    rng.choice(data, size),
                    generate(generator, noise()),
                )
                share = rng.random((size, 1), dtype=onp.float32)
                between = share * real + (1 - share) * drawn
                found = grad(critic_loss)(critic, real, drawn, between)
                critic = judge.step(critic, found, slower)
            distances.append(
                float(
                    np.mean(score(critic, real)) - np.mean(score(critic, drawn))
                )
            )
            found = grad(generator_loss)(generator, critic, noise())
            generator = improve.step(generator, found, slower)
    return Trained(generator, critic, distances)


def energy_distance(a: Array, b: Array) -> float:
    """Return a distance of two sets of images that no network has a part in; 0 if they are one."""

    def apart(a: Array, b: Array) -> float:
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return float(onp.sqrt(onp.maximum(squares, 0)).mean())

    return 2 * apart(a, b) - apart(a, a) - apart(b, b)
