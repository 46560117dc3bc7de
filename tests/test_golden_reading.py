"""`golden verify` cannot pass on nothing, and reads nothing outside of its folder."""

import copy
import json
import os
import random
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from golden_vectors import vectors
from test_files import damaged

from numpy_norms.cli import main
from numpy_norms.files import read_npz
from numpy_norms.golden.files import MANIFEST, write_json, write_manifest, write_npz
from numpy_norms.golden.reading import BadVectors
from numpy_norms.golden.verify import verify

FILE = "rms_norm-float32.npz"
OTHER = "rms_norm-float64.npz"
posix = pytest.mark.skipif(os.name != "posix", reason="pipes and links")


def contents_of(folder):
    return json.loads((folder / "cases.json").read_text())


@pytest.fixture
def folder(tmp_path):
    """The vectors of one group, with what belongs to them."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        folder = Path(name)
        contents = contents_of(vectors())
        contents["groups"] = [g for g in contents["groups"] if g["file"] == FILE]
        write_json(folder / "cases.json", contents)
        shutil.copy(vectors() / FILE, folder)
        seal(folder)
        yield folder


def seal(folder):
    """Write the manifest again, as somebody would who changed a file."""
    write_manifest(folder, [path.name for path in folder.iterdir() if path.name != MANIFEST])


def said_of(folder, capsys):
    """Return the exit status of `golden verify`, and all it says."""
    status = main(["golden", "verify", str(folder)])
    out, err = capsys.readouterr()
    assert err.count("\n") == (status == 2)
    return status, out + err


def change(folder, how):
    """Change `cases.json` and write the manifest again."""
    contents = contents_of(folder)
    how(contents, contents["groups"])
    write_json(folder / "cases.json", contents)
    seal(folder)


def test_what_is_whole_passes(folder, capsys):
    assert said_of(folder, capsys)[0] == 0


def drop(entry, key):
    del entry[key]


CONTENTS = {
    "no groups": (lambda c, g: g.clear(), f"{FILE} is in no group of cases.json"),
    "no cases": (lambda c, g: g[0]["cases"].clear(), "the case ordinary is missing"),
    "a case less": (lambda c, g: g[0]["cases"].pop(), "is missing"),
    "a case more": (
        lambda c, g: g[0]["cases"].append(g[0]["cases"][0] | {"name": "another"}),
        "the case 'another' is none that this version makes",
    ),
    "no outputs": (
        lambda c, g: g[0]["cases"][0]["outputs"].clear(),
        "is not told as this version makes it",
    ),
    "another eps": (lambda c, g: g[0]["cases"][0].update(eps="0x1p0"), "is not told as"),
    "another norm": (lambda c, g: g[0].update(norm="batch_norm"), "'norm' is 'batch_norm', but"),
    "a key less": (lambda c, g: drop(g[0], "dtype"), "'dtype' is None, but 'float32' was expected"),
    "an unknown file": (
        lambda c, g: g.append(g[0] | {"file": "nothing.npz"}),
        "nothing.npz is not in SHA256SUMS",
    ),
    "a file outside": (
        lambda c, g: g.append(g[0] | {"file": "../rms_norm-float64.npz"}),
        "../rms_norm-float64.npz is not in SHA256SUMS",
    ),
}


@pytest.mark.parametrize(("how", "says"), CONTENTS.values(), ids=CONTENTS)
def test_cases_that_are_not_those_of_the_set_disagree(folder, capsys, how, says):
    change(folder, how)
    status, said = said_of(folder, capsys)
    assert status == 1
    assert says in said


UNREADABLE = {
    "twice the file": lambda c, g: g.append(copy.deepcopy(g[0])),
    "twice the case": lambda c, g: g[0]["cases"].append(g[0]["cases"][0]),
    "no list": lambda c, g: c.update(groups=3),
    "no dict": lambda c, g: g.append([]),
    "no name": lambda c, g: drop(g[0]["cases"][0], "name"),
    "a list for a name": lambda c, g: g[0]["cases"][0].update(name=[]),
    "no file": lambda c, g: drop(g[0], "file"),
    "a number for a file": lambda c, g: g[0].update(file=3),
    "no generator": lambda c, g: drop(c, "generator"),
    "another schema": lambda c, g: c.update(schema_version="2.0.0"),
    "other cases": lambda c, g: c["generator"].update(version="2.0.0"),
    "null": lambda c, g: c.update(groups=None),
}


@pytest.mark.parametrize("how", UNREADABLE.values(), ids=UNREADABLE)
def test_contents_that_cannot_be_read_are_one_line(folder, capsys, how):
    change(folder, how)
    status, said = said_of(folder, capsys)
    assert status == 2
    assert "cases.json" in said


@pytest.mark.parametrize("text", ["", "null", "[" * 100_000, "1" * 10_000, "\0", "{}", "\ud800"])
def test_contents_of_any_kind_are_one_line(folder, capsys, text):
    (folder / "cases.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    seal(folder)
    assert said_of(folder, capsys)[0] == 2


@pytest.mark.parametrize("name", ["cases.json", "cases.schema.json", FILE])
def test_a_file_that_the_manifest_leaves_out_disagrees(folder, capsys, name):
    shutil.copy(vectors() / "cases.schema.json", folder)
    seal(folder)
    assert said_of(folder, capsys)[0] == 0
    lines = (folder / MANIFEST).read_text().splitlines(keepends=True)
    (folder / MANIFEST).write_text("".join(line for line in lines if name not in line))
    status, said = said_of(folder, capsys)
    assert status == 1
    assert f"{name} is not in {MANIFEST}" in said


def test_a_file_that_nothing_names_disagrees(folder, capsys):
    shutil.copy(vectors() / OTHER, folder)
    status, said = said_of(folder, capsys)
    assert (status, f"{OTHER} is not in {MANIFEST}" in said) == (1, True)
    seal(folder)
    status, said = said_of(folder, capsys)
    assert (status, f"{OTHER} is in no group of cases.json" in said) == (1, True)


def test_an_empty_set_disagrees(folder, capsys):
    (folder / FILE).unlink()
    change(folder, lambda contents, groups: groups.clear())
    status, said = said_of(folder, capsys)
    assert status == 1
    assert "no case was checked" in said


@pytest.mark.parametrize(
    "line",
    ["../x", "/etc/passwd", "a/b", "..", ".hidden", "C:x", "cases.json", "", "a\\b", "\x1b[31m"],
)
def test_a_manifest_that_leads_elsewhere_is_one_line(folder, capsys, line):
    with (folder / MANIFEST).open("a") as file:
        file.write(f"{'0' * 64}  {line}\n")
    status, said = said_of(folder, capsys)
    assert (status, MANIFEST in said) == (2, True)


@posix
@pytest.mark.parametrize("name", ["cases.json", FILE, MANIFEST])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_what_is_no_file_of_its_own_is_not_read(folder, capsys, tmp_path, name, kind):
    shutil.move(folder / name, tmp_path / name)
    if kind == "link":
        (folder / name).symlink_to(tmp_path / name)
    elif kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()
    status, said = said_of(folder, capsys)
    assert status == (1 if name == FILE else 2)
    assert name in said


@pytest.mark.parametrize("spoil", ["removed", "shape", "type", "input", "not finite"])
def test_arrays_that_are_not_those_of_the_case_are_one_line(folder, capsys, spoil):
    arrays = dict(read_npz(folder / FILE))
    if spoil == "removed":
        del arrays["ordinary/dx.tolerance"]
    elif spoil == "shape":
        arrays["ordinary/y"] = arrays["ordinary/y"][:1]
    elif spoil == "type":
        arrays["ordinary/y.float64"] = arrays["ordinary/y"]
    elif spoil == "input":
        arrays["ordinary/gamma"] = arrays["ordinary/gamma"] + 1
    else:
        arrays["ordinary/eps"] = np.array(np.nan)
    write_npz(folder / FILE, arrays)
    seal(folder)
    status, said = said_of(folder, capsys)
    assert status == 2
    assert f"{FILE} has " in said


def test_damaged_vectors_disagree_or_are_one_line(folder):
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    for trial in range(600):
        name = [MANIFEST, "cases.json", FILE][trial % 3]
        (folder / name).write_bytes(damaged(good[name], trial // 3))
        changed = (folder / name).read_bytes() != good[name]
        sealed = name != MANIFEST and random.Random(trial).random() < 0.5
        if sealed:
            seal(folder)
        try:
            passed = all(verdict.passed for verdict in verify(folder))
        except BadVectors:
            passed = False
        assert sealed or not (changed and passed), trial
        for other, content in good.items():
            (folder / other).write_bytes(content)
    assert all(verdict.passed for verdict in verify(folder))
