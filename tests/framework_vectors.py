"""What Keras and Flax compute: run this file to write ``tests/data/frameworks.json`` anew.

Every layer is built with its defaults. The spread of x is small, so that eps is seen.
"""

import json
import os
import warnings
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "data" / "frameworks.json"
GROUPS = 2
SHAPE = (4, 3, 6)  # (N, S, C): both frameworks have channels last
STATE_SHAPE = SHAPE[-1:]


def draw(seed):
    """Draw the parameters of one layer, or x."""
    return np.random.default_rng(seed).standard_normal


def inputs():
    """Return x, of standard deviation 0.03."""
    return (0.02 + 0.03 * draw(0)(SHAPE)).astype(np.float32)


def parameters(names):
    """Draw an array for every name; a variance is positive and small."""
    arrays = {name: draw(i)(STATE_SHAPE).astype(np.float32) for i, name in enumerate(names, 1)}
    for name in arrays:
        if name.endswith("mean"):
            arrays[name] *= 0.02
        if name.endswith(("var", "variance")):
            arrays[name] = 1e-3 * arrays[name] ** 2
    return arrays


def keras_results():
    """Run the layers of Keras."""
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    import keras

    layers = {
        "batch_norm": keras.layers.BatchNormalization,
        "layer_norm": keras.layers.LayerNormalization,
        "group_norm": lambda name: keras.layers.GroupNormalization(GROUPS, name=name),
        "instance_norm": lambda name: keras.layers.GroupNormalization(-1, name=name),
        "rms_norm": keras.layers.RMSNormalization,
    }
    x, results = inputs(), {"version": keras.__version__}
    for norm, make in layers.items():
        layer = make(name="here")
        layer.build(x.shape)
        state = parameters([weight.name for weight in layer.weights])
        for weight in layer.weights:
            weight.assign(state[weight.name])
        before = {weight.path: state[weight.name] for weight in layer.weights}
        results[norm] = {"state": before, "y": keras.ops.convert_to_numpy(layer(x))}
        if norm == "batch_norm":
            results[norm]["y_training"] = keras.ops.convert_to_numpy(layer(x, training=True))
            results[norm]["new_state"] = {w.path: w.numpy() for w in layer.weights}
    return {**results, "maps": keras_maps()}


def keras_maps():
    """Run linear maps of Keras, each followed by a batch norm: layout -> what one has."""
    import keras

    layers = keras.layers
    maps = {
        "keras-dense": (layers.Dense(6), (2, 4)),
        "keras-conv": (layers.Conv2D(6, (2, 3), groups=2), (2, 3, 4, 4)),
        "keras-conv 1d": (layers.Conv1D(6, 2, padding="same"), (2, 4, 3)),
        "keras-conv-transpose": (layers.Conv2DTranspose(6, (2, 3), strides=2), (2, 3, 2, 4)),
        "keras-conv-transpose square": (layers.Conv2DTranspose(6, (2, 3)), (2, 3, 2, 6)),
        "keras-depthwise-conv": (layers.DepthwiseConv2D((2, 3)), (2, 3, 4, 6)),
        "keras-depthwise-conv 2": (
            layers.DepthwiseConv2D((2, 3), depth_multiplier=2), (2, 3, 4, 3)
        ),
    }  # fmt: skip
    results = {}
    for name, (layer, shape) in maps.items():
        x = draw(7)(shape).astype(np.float32)
        layer.build(shape)
        kernel, bias = (
            draw(8 + i)(w.shape).astype(np.float32) for i, w in enumerate(layer.weights)
        )
        layer.set_weights([kernel, bias])
        norm = layers.BatchNormalization()
        h = layer(x)
        norm.build(h.shape)
        state = parameters([weight.name for weight in norm.weights])
        for weight in norm.weights:
            weight.assign(state[weight.name])
        y = keras.ops.convert_to_numpy(norm(h))
        results[name] = {"x": x, "kernel": kernel, "bias": bias, "y": y, "norm": state}
    return results


def flax_maps():
    """Run linear maps of Flax, each followed by a batch norm: layout -> what one has."""
    import flax.linen as nn

    maps = {
        "flax-dense": (nn.Dense(6), (2, 4)),
        "flax-conv": (nn.Conv(6, (2, 3), feature_group_count=2, padding="VALID"), (2, 3, 4, 4)),
        "flax-conv depthwise": (
            nn.Conv(6, (2, 3), feature_group_count=3, padding="VALID"), (2, 3, 4, 3)
        ),
        "flax-conv-transpose": (nn.ConvTranspose(6, (2, 3), padding="VALID"), (2, 3, 2, 4)),
        "flax-conv-transpose-kernel": (
            nn.ConvTranspose(6, (2, 3), padding="VALID", transpose_kernel=True), (2, 3, 2, 4)
        ),
    }  # fmt: skip
    results = {}
    for name, (module, shape) in maps.items():
        import jax

        x = draw(7)(shape).astype(np.float32)
        shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
        arrays = {n: draw(8 + i)(shapes[n].shape).astype(np.float32)
                  for i, n in enumerate(("kernel", "bias"))}  # fmt: skip
        state = parameters(["scale", "bias", "mean", "var"])
        variables = {
            "params": {name: state[name] for name in ("scale", "bias")},
            "batch_stats": {name: state[name] for name in ("mean", "var")},
        }
        h = module.apply({"params": arrays}, x)
        y = np.asarray(nn.BatchNorm(use_running_average=True).apply(variables, h))
        results[name] = {"x": x, **arrays, "y": y, "norm": state}
    return results


def flax_results():
    """Run the modules of Flax (linen)."""
    import flax
    import flax.linen as nn

    modules = {
        "batch_norm": nn.BatchNorm(use_running_average=True),
        "layer_norm": nn.LayerNorm(),
        "group_norm": nn.GroupNorm(GROUPS),
        "instance_norm": nn.InstanceNorm(),
        "rms_norm": nn.RMSNorm(),
    }
    x, results = inputs(), {"version": flax.__version__}
    for norm, module in modules.items():
        names = ["scale"] if norm == "rms_norm" else ["scale", "bias"]
        variables = {"params": {"here": parameters(names)}}
        if norm == "batch_norm":
            state = parameters([*names, "mean", "var"])
            variables["batch_stats"] = {"here": {name: state[name] for name in ("mean", "var")}}
        inner = {collection: entry["here"] for collection, entry in variables.items()}
        results[norm] = {"state": variables, "y": np.asarray(module.apply(inner, x))}
        if norm == "batch_norm":
            training = nn.BatchNorm(use_running_average=False)
            y, new = training.apply(inner, x, mutable="batch_stats")
            results[norm]["y_training"] = np.asarray(y)
            results[norm]["new_state"] = {**variables, "batch_stats": {"here": new["batch_stats"]}}
    return {**results, "maps": flax_maps()}


FRAMEWORKS = {"keras": keras_results, "flax": flax_results}


def results_of(framework):
    """Run one framework, whose own warnings are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return as_lists(FRAMEWORKS[framework]())


def as_lists(results):
    """Turn arrays into nested lists of numbers, each exact."""
    if isinstance(results, dict):
        return {key: as_lists(value) for key, value in results.items()}
    return results if isinstance(results, str) else np.asarray(results).tolist()


def as_arrays(results):
    """Undo `as_lists`."""
    if isinstance(results, dict):
        return {key: as_arrays(value) for key, value in results.items()}
    return results if isinstance(results, str) else np.array(results, np.float32)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    text = json.dumps({name: results_of(name) for name in FRAMEWORKS})
    FILE.write_text(text + "\n", "utf-8")
