"""The networks of the GAN tutorial: their gradients. That they learn, the page asserts."""

import importlib
import sys
from pathlib import Path

import autograd
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from extras import need
from measure import assert_close

need("sklearn", "threadpoolctl", "tqdm")
sys.path.append(str(Path(__file__).parents[1] / "docs"))
wgan = importlib.import_module("examples.wgan")


def parameters(inputs, outputs, rng):
    """Draw parameters, signed gammas too."""
    return [rng.standard_normal(p.shape) / 8 for p in wgan.build(inputs, outputs, rng)]


def torch_network(p, x, batch_norm):
    """Write a network once more in PyTorch."""
    for weight, gamma, beta in (p[:3], p[3:6]):
        h = x @ weight
        if batch_norm:
            h = F.batch_norm(h, None, None, gamma, beta, training=True)
        else:
            h = F.layer_norm(h, gamma.shape, gamma, beta)
        x = torch.where(h > 0.2 * h, h, 0.2 * h)
    return x @ p[6] + p[7]


def tensors(arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def test_the_gradient_of_the_critic_s_loss_is_pytorch_s(rng):
    critic = parameters(wgan.PIXELS, 1, rng)
    real, drawn, between = rng.standard_normal((3, 20, wgan.PIXELS))
    found = autograd.grad(wgan.critic_loss)(critic, real, drawn, between)

    p, (x,) = tensors(critic), tensors([between])
    (slope,) = torch.autograd.grad(torch_network(p, x, False).sum(), x, create_graph=True)
    steepness = torch.sqrt((slope**2).sum(1) + 1e-12)
    means = [torch_network(p, torch.tensor(a), False).mean() for a in (real, drawn)]
    loss = means[1] - means[0] + 10 * ((steepness - 1) ** 2).mean()
    loss.backward()
    assert wgan.critic_loss(critic, real, drawn, between) == pytest.approx(loss.item(), rel=1e-12)
    largest = max(np.abs(d).max() for d in found)
    for got, expected in zip(found[:-1], p[:-1], strict=True):
        assert_close(got, expected.grad.numpy(), 1e-12)
    assert np.abs(found[-1]).max() <= 1e-12 * largest  # the last bias is in no difference


def test_the_gradient_of_the_generator_s_loss_is_pytorch_s(rng):
    generator = parameters(wgan.NOISE, wgan.PIXELS, rng)
    critic, noise = parameters(wgan.PIXELS, 1, rng), rng.standard_normal((20, wgan.NOISE))
    found = autograd.grad(wgan.generator_loss)(generator, critic, noise)
    p, judge = tensors(generator), [torch.tensor(a) for a in critic]
    images = torch.tanh(torch_network(p, torch.tensor(noise), True))
    (-torch_network(judge, images, False).mean()).backward()
    for got, expected in zip(found, p, strict=True):
        assert_close(got, expected.grad.numpy(), 1e-12)


def test_training_is_the_same_every_time():
    data = wgan.load_data()
    first, second = (wgan.train(data, steps=3).distances for _ in range(2))
    assert first == second
