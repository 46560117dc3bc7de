"""A slip in one equation is caught, and said to be that one."""

import ast

import numpy as np
import pytest
from trials import without_large

from benchmarks.random_bugs import compiled, source
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify.faults.grammar import CENTRED
from numpy_norms.verify.faults.slips import EQUATIONS, OTHERWISE, slips, value
from numpy_norms.verify.plain import STEPS

WRITTEN = [
    ("layer_norm", "x_hat = (seen - mean) / np", "x_hat = (seen + mean) / np",
     "y: in x_hat, + stands where - belongs: x_hat = (x + mu) r"),
    ("batch_norm", "(scale * x_hat + shift)",
     "(seen * (scale / np.sqrt(var + eps)) + (shift - mean * scale))",
     "y: in y, r is left out: y = x gamma r + (beta - mu gamma)"),
    ("instance_norm", "var = ((seen - mean) ** 2)", "var = ((seen - mean) ** 4)",
     "y: in the variance, 4 stands where 2 belongs: var = E[(x - mu)^4]"),
    ("batch_norm", "dgamma = (given * x_hat)", "dgamma = (given / x_hat)",
     "dgamma: in dgamma, / stands where a product belongs: dgamma = sum dy / x_hat"),
    ("layer_norm", "dgamma = (given * x_hat)", "dgamma = (given * g)",
     "dgamma: in dgamma, gamma dy stands where x_hat belongs: dgamma = sum dy gamma dy"),
    ("group_norm", "g = given * scale", "g = x_hat * scale",
     "dx: in dx_hat, x_hat stands where dy belongs: dx_hat = gamma x_hat"),
    ("rms_norm", "projection = (g * x_hat)", "projection = (x_hat * x_hat)",
     "dx: in the variance term, x_hat stands where dx_hat belongs: "
     "dx = r (dx_hat - x_hat E[x_hat x_hat])"),
    ("batch_norm", "- x_hat * projection)", "- x_hat * mean)",
     "dx: in the variance term, mu stands where E[dx_hat x_hat] belongs: "
     "dx = r (dx_hat - E[dx_hat] - x_hat mu)"),
    ("group_norm", "mean = seen.mean(axis=(2, 3)", "mean = seen.mean(axis=(3,)",
     "y: the mean is taken over S alone: these are instance norm's axes"),
    ("layer_norm", "g = given * scale", "g = given / scale",
     "dx: in dx_hat, dy is divided by gamma: dx_hat = dy / gamma"),
    ("group_norm", "(g * x_hat).mean(axis=(2, 3)", "(g * x_hat).mean(axis=(2,)",
     "dx: E[dx_hat x_hat] is taken over the channels of a group alone"),
]  # fmt: skip


@pytest.mark.parametrize(("norm", "right", "wrong", "said"), WRITTEN)
def test_a_slip_is_caught_and_said(norm, right, wrong, said):
    text = source(norm)
    assert right in text
    before, _, after = text.rpartition(right) if said[0] == "d" else text.partition(right)
    report = without_large(norm).of(*compiled(ast.parse(before + wrong + after)))
    assert str(report.diagnosis[0]) == said
    assert report.diagnosis[0].share > 0.95


@pytest.mark.parametrize("norm", NORMS)
def test_every_equation_is_its_step_and_every_slip_is_another(norm):
    work = without_large(norm).judges[0].worked(np.float64)
    assert list(EQUATIONS) == [step for step in STEPS if step != "scale"]
    for step, equation in (*EQUATIONS.items(), *OTHERWISE.items()):
        if norm in CENTRED or step not in ("mean", "centre"):
            assert np.allclose(value(equation, work), STEPS[step](work), rtol=1e-12)
    same = []
    for fault in (*slips(norm), *slips(norm, otherwise=True)):
        ((step, edit),) = fault.edits.items()
        with np.errstate(all="ignore"):
            other, right = np.broadcast_arrays(edit(work, None), STEPS[step](work))
        if np.allclose(other, right, rtol=1e-6):
            same.append((fault.what, fault.formula))
    assert not same
