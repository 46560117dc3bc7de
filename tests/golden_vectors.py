"""The golden vectors, written once for all tests that read them."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from numpy_norms.files import read_npz
from numpy_norms.golden.export import export

_folder = TemporaryDirectory()


@cache
def vectors():
    """Return the folder of vectors."""
    export(Path(_folder.name))
    return Path(_folder.name)


@cache
def groups():
    """Return the groups of `cases.json` by file name."""
    contents = json.loads((vectors() / "cases.json").read_text())
    return {group["file"]: group for group in contents["groups"]}


@cache
def arrays(file):
    """Return the arrays of a group; they are shared, so nobody may write to them."""
    found = read_npz(vectors() / file)
    for array in found.values():
        array.setflags(write=False)
    return found


def kernel_arguments(file, case):
    """Return dy and the arguments of a forward pass: copies, in the order of the kit."""
    values = {name: arrays(file)[f"{case['name']}/{name}"].copy() for name in case["inputs"]}
    names = ["x", "running_mean", "running_var", "gamma", "beta"]
    given = [values[name] for name in names if name in values]
    if "num_groups" in case["options"]:
        given.insert(1, case["options"]["num_groups"])
    return values["dy"], [*given, float(values["eps"])]
