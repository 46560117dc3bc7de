"""The public names: what is exported, how it is called, how it is documented."""

import inspect
import itertools
import pickle
import subprocess
import sys

import numpy as np
from cases import SIX, parametrize
from each import each

import numpy_norms

SIGNATURES = {
    "add_layer_norm_forward": "x, residual, gamma=None, beta=None, *, "
    "axis=-1, eps=1e-05, dtype=None",
    "add_layer_norm_backward": "dy, ds, cache",
    "add_rms_norm_forward": "x, residual, gamma=None, *, axis=-1, eps=1e-05, dtype=None",
    "add_rms_norm_backward": "dy, ds, cache",
    "batch_norm_forward": "x, gamma=None, beta=None, *, "
    "channel_axis=1, eps=1e-05, dtype=None, out=None, where=None",
    "batch_norm_backward": "dy, cache",
    "batch_norm_inference_forward": "x, running_mean, running_var, gamma=None, beta=None, *, "
    "channel_axis=1, eps=1e-05, dtype=None, out=None",
    "batch_norm_inference_backward": "dy, cache",
    "update_running_stats": "running_mean, running_var, cache, *, momentum=0.1, correction=1",
    "layer_norm_forward": "x, gamma=None, beta=None, *, "
    "axis=-1, feature_axis=None, eps=1e-05, dtype=None, out=None, where=None, scheme='exact'",
    "layer_norm_backward": "dy, cache",
    "group_norm_forward": "x, num_groups, gamma=None, beta=None, *, "
    "channel_axis=1, eps=1e-05, dtype=None, out=None, where=None",
    "group_norm_backward": "dy, cache",
    "instance_norm_forward": "x, gamma=None, beta=None, *, "
    "channel_axis=1, eps=1e-05, dtype=None, out=None, where=None",
    "instance_norm_backward": "dy, cache",
    "rms_norm_forward": "x, gamma=None, *, "
    "axis=-1, feature_axis=None, eps=1e-05, dtype=None, out=None, where=None, scheme='exact'",
    "rms_norm_backward": "dy, cache",
    "jvp": "cache, *, x_dot=None, gamma_dot=None, beta_dot=None, "
    "running_mean_dot=None, running_var_dot=None",
    "double_backward": "dy, cache, *, ddx=None, ddgamma=None, ddbeta=None, "
    "ddrunning_mean=None, ddrunning_var=None",
    "weight_norm_forward": "v, g, *, channel_axis=0, dtype=None",
    "weight_norm_backward": "dw, cache",
    "power_iteration": "weight, u, v, *, channel_axis=0, iterations=1, eps=1e-12",
    "spectral_norm_forward": "weight, u, v, *, channel_axis=0, dtype=None",
    "spectral_norm_backward": "dw, cache",
    "batch_renorm_forward": "x, running_mean, running_var, gamma=None, beta=None, *, "
    "r_max=3.0, d_max=5.0, channel_axis=1, eps=1e-05, dtype=None",
    "batch_renorm_backward": "dy, cache",
    "global_response_norm_forward": "x, gamma, beta, *, channel_axis=1, eps=1e-06, dtype=None",
    "global_response_norm_backward": "dy, cache",
    "lp_normalize_forward": "x, *, p=2.0, axis=-1, eps=1e-12, eps_place='max', dtype=None",
    "local_response_norm_forward": "x, size, *, alpha=0.0001, beta=0.75, k=1.0, "
    "even_window='lower', axis=1, dtype=None",
    "set_num_threads": "n",
    "get_num_threads": "",
}
FUNCTIONS = [n for n in numpy_norms.__all__ if inspect.isfunction(getattr(numpy_norms, n))]
FORWARD = [n for n in FUNCTIONS if n.endswith("_forward")]
functions = each("name", FUNCTIONS)


def defined_here(value):
    """Say whether a value is a function or class of this package."""
    return getattr(value, "__module__", "").startswith("numpy_norms")


@each("name", SIGNATURES)
def test_the_signature_is_as_designed(name):
    signature = inspect.signature(getattr(numpy_norms, name))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == f"({SIGNATURES[name]})"


def test_all_names_are_defined_sorted_and_complete():
    public = [n for n, v in vars(numpy_norms).items() if n[0] != "_" and defined_here(v)]
    assert sorted(numpy_norms.__all__) == sorted(public)
    assert numpy_norms.__all__ == sorted(numpy_norms.__all__)


@each("name", FORWARD)
def test_every_forward_has_its_backward(name):
    assert name.replace("_forward", "_backward") in numpy_norms.__all__


def test_every_backward_has_its_forward():
    backward = [n for n in FUNCTIONS if n.endswith("_backward") and n != "double_backward"]
    assert [n.replace("_backward", "_forward") for n in backward] == FORWARD


@functions
def test_arguments_with_a_default_are_keyword_only_but_for_arrays(name):
    arrays = ("gamma", "beta")
    for parameter in inspect.signature(getattr(numpy_norms, name)).parameters.values():
        has_default = parameter.default is not inspect.Parameter.empty
        if parameter.name not in arrays:
            assert has_default == (parameter.kind is inspect.Parameter.KEYWORD_ONLY)


@functions
def test_every_argument_and_result_is_annotated(name):
    signature = inspect.signature(getattr(numpy_norms, name))
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty


@functions
def test_the_docstring_has_its_sections_in_order_and_fits_a_screen(name):
    lines = inspect.getdoc(getattr(numpy_norms, name)).splitlines()
    sections = [a for a, b in itertools.pairwise(lines) if b and set(b) == {"-"}]
    order = ["Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples"]
    assert sections == sorted(sections, key=order.index)
    assert "Examples" in sections
    if name.endswith("_forward"):
        assert {"Parameters", "Returns", "Raises", "References"} <= set(sections)
    assert len(lines) <= 60


@functions
def test_the_docstring_begins_with_one_line_and_names_every_parameter(name):
    function = getattr(numpy_norms, name)
    first, blank, *rest = inspect.getdoc(function).splitlines()
    assert first[0].isupper()
    assert first.endswith(".")
    assert blank == ""
    for parameter in inspect.signature(function).parameters:
        assert any(parameter in line.split(" : ")[0].split(", ") for line in rest)


@each("name", numpy_norms.__all__)
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(numpy_norms, name))


def test_the_version_is_the_one_that_was_installed():
    assert numpy_norms.__version__.count(".") == 2


def test_import_loads_nothing_beside_numpy_and_starts_no_thread():
    code = (
        "import numpy, sys, threading; before = set(sys.modules); import numpy_norms;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new - sys.stdlib_module_names - {'numpy'}), threading.active_count())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["numpy_norms", "1"]


@parametrize(SIX)
def test_gradients_come_in_the_order_of_the_arguments(norm):
    arrays, dy = norm.draw()
    _, cache = norm.forward(arrays)
    gradients = getattr(numpy_norms, f"{norm.name}_backward")(dy, cache)
    assert isinstance(gradients, tuple)
    forward = inspect.signature(getattr(numpy_norms, f"{norm.name}_forward")).parameters
    names = [name for name in forward if name in arrays]
    assert [g.shape for g in gradients] == [arrays[name].shape for name in names]


@parametrize(SIX)
def test_the_cache_is_one_tuple_type_and_can_be_pickled(norm):
    arrays, dy = norm.draw()
    _, cache = norm.forward(arrays)
    assert isinstance(cache, tuple)
    public = {"norm", "x", "gamma", "mean", "var", "rstd", "eps"}
    assert public <= set(dir(cache))
    gradients = norm.backward(dy, pickle.loads(pickle.dumps(cache)))
    np.testing.assert_array_equal(gradients["x"], norm.backward(dy, cache)["x"])
