"""Modules that the tests of `judge` judge: right ones, and each with one fault."""

import torch
from torch import nn


class Batch(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.bn(x)


class BatchInEval(Batch):
    """Eval mode takes the statistics of the batch."""

    def forward(self, x):
        if self.training:
            return self.bn(x)
        return nn.functional.batch_norm(
            x, None, None, self.bn.weight, self.bn.bias, training=True, eps=self.bn.eps
        )


class BatchFrozen(Batch):
    """Running statistics are never updated."""

    def forward(self, x):
        bn = self.bn
        if not self.training:
            return bn(x)
        return nn.functional.batch_norm(x, None, None, bn.weight, bn.bias, True, eps=bn.eps)


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.ln = nn.LayerNorm(shape)

    def forward(self, x):
        return self.ln(x)


class LayerUnbiased(Layer):
    """Divided by m - 1."""

    def forward(self, x):
        axes = tuple(range(1, x.ndim))
        mean, var = x.mean(axes, keepdim=True), x.var(axes, keepdim=True)
        return (x - mean) / torch.sqrt(var + self.ln.eps) * self.ln.weight + self.ln.bias


class Rms(nn.Module):
    def __init__(self, channels, eps=1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        return x / torch.sqrt((x * x).mean(1, keepdim=True) + self.eps)


class RmsNoEps(Rms):
    def forward(self, x):
        return x / torch.sqrt((x * x).mean(1, keepdim=True))


class L1(nn.Module):
    def forward(self, x):
        return x / x.abs().mean(1, keepdim=True)


class L1Sum(nn.Module):
    """Divided by the sum."""

    def forward(self, x):
        return x / x.abs().sum(1, keepdim=True)


class Zeros(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


class Raises(nn.Module):
    def __init__(self, channels):
        raise ValueError("no such kernel")


class Epsilon(nn.Module):
    """An eps of another name, that is not the usual one."""

    def __init__(self, dim, epsilon=1e-6):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(dim)), epsilon

    def forward(self, x):
        return self.weight * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.epsilon)


class BuiltIn(Epsilon):
    """An eps that is built in, under the name that it has in Llama."""

    def __init__(self, dim):
        super().__init__(dim)
        self.variance_epsilon, self.epsilon = 1e-4, None

    def forward(self, x):
        return self.weight * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.variance_epsilon)


class ByName(Layer):
    def __init__(self, *, dim):
        super().__init__(dim)


class Pair(Layer):
    """It returns y and something else."""

    def forward(self, x):
        return super().forward(x), None


class Dictionary(Layer):
    def forward(self, x):
        return {"y": super().forward(x)}


class Broken(Layer):
    def forward(self, x):
        raise NotImplementedError("no kernel for it")


Group = nn.GroupNorm  # num_groups first
nothing = 3
