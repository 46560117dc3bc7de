"""`golden export` and `golden verify`: what they write, and what they say of bad vectors."""

import errno
import json
import os
import shutil
import sys
from unittest import mock

import numpy as np
import pytest

import numpy_norms
import numpy_norms.golden.export as writing
from numpy_norms.cli import main
from numpy_norms.golden.cases import cases
from numpy_norms.golden.files import MANIFEST, write_manifest
from numpy_norms.golden.verify import verify

GROUPS = {("layer_norm", "float32"), ("layer_norm", "bfloat16"), ("rms_norm", "bfloat16")}


@pytest.fixture(scope="module", autouse=True)
def few():
    """Have three groups exported in place of all."""
    few = [case for case in cases() if (case.norm, case.form.name) in GROUPS]
    with mock.patch.object(writing, "cases", return_value=few):
        yield few


@pytest.fixture(scope="module")
def vectors(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    writing.export(folder)
    return folder


@pytest.fixture
def folder(tmp_path, vectors):
    """A copy of the vectors of one group, to be spoilt."""
    contents = json.loads((vectors / "cases.json").read_text())
    contents["groups"] = [g for g in contents["groups"] if g["file"] == "layer_norm-float32.npz"]
    (tmp_path / "cases.json").write_text(json.dumps(contents))
    shutil.copy(vectors / "layer_norm-float32.npz", tmp_path)
    write_manifest(tmp_path, ["cases.json", "layer_norm-float32.npz"])
    return tmp_path


def run(capsys, *words):
    status = main(["golden", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_export_writes_what_it_says(tmp_path, capsys, few, vectors):
    new = tmp_path / "new" / "folder"
    status, out, _ = run(capsys, "export", new, "--json")
    written = {path.name: path.read_bytes() for path in new.iterdir()}
    said = {"folder": str(new), "cases": len(few), "bytes": sum(map(len, written.values()))}
    assert (status, json.loads(out)) == (0, said)
    assert written == {path.name: path.read_bytes() for path in vectors.iterdir()}
    assert len(written) == len(GROUPS) + 3


def test_vectors_that_were_just_written_agree(folder, capsys):
    status, out, _ = run(capsys, "verify", folder)
    assert status == 0
    assert out.splitlines()[-1] == "18 cases, 0 disagree"


def test_a_wrong_gradient_of_this_library_disagrees(folder, capsys, monkeypatch):
    right = numpy_norms.layer_norm_backward

    def wrong(dy, cache):
        dx, dgamma, dbeta = right(dy, cache)
        return dx, dgamma + 1, dbeta

    monkeypatch.setattr(numpy_norms, "layer_norm_backward", wrong)
    status, out, _ = run(capsys, "verify", folder)
    assert status == 1
    assert "ordinary/dgamma[" in out
    assert "DroppedTerm" in out


@pytest.mark.parametrize("name", ["cases.json", "layer_norm-float32.npz"])
def test_a_file_that_was_changed_disagrees(folder, capsys, name):
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    status, out, _ = run(capsys, "verify", folder)
    assert status == 1
    assert f"{name} was changed" in out


def test_a_file_that_is_missing_disagrees(folder, capsys):
    (folder / "layer_norm-float32.npz").unlink()
    status, out, _ = run(capsys, "verify", folder)
    assert status == 1
    assert "layer_norm-float32.npz is missing" in out


def test_nan_where_a_number_is_expected_disagrees(folder, monkeypatch):
    right = numpy_norms.layer_norm_backward

    def wrong(dy, cache):
        return tuple(gradient * np.nan for gradient in right(dy, cache))

    monkeypatch.setattr(numpy_norms, "layer_norm_backward", wrong)
    (verdict,) = verify(folder)
    assert not verdict.passed


def test_json_has_the_verdict_of_every_file(folder, capsys):
    status, out, _ = run(capsys, "verify", folder, "--json")
    (verdict,) = json.loads(out)
    assert (status, verdict["passed"], verdict["cases"]) == (0, True, 18)
    assert verdict["rounded"] > 0.999 * verdict["values"]


def test_bfloat16_is_left_out_without_ml_dtypes(capsys, monkeypatch, vectors):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    status, out, _ = run(capsys, "verify", vectors)
    assert status == 0
    assert out.count("ml_dtypes not installed") == 2
    assert out.splitlines()[-1].endswith(" 2 files not checked")


@pytest.mark.parametrize("package", ["mpmath", "ml_dtypes"])
def test_export_without_an_extra_is_one_line(tmp_path, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    status, out, err = run(capsys, "export", tmp_path)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert f"needs {package}, which is not installed; pip install" in err


def spoil(folder, name, text):
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        (lambda folder: folder / "nowhere", "is not a folder"),
        (lambda folder: folder / "cases.json", "is not a folder"),
        (lambda folder: (folder / MANIFEST).unlink() or folder, f"has no {MANIFEST}"),
        (
            lambda folder: spoil(folder, MANIFEST, "one line"),
            "cannot be read: 'one line' is no digest",
        ),
        (lambda folder: spoil(folder, "cases.json", "{"), "cannot be read"),
        (lambda folder: spoil(folder, "cases.json", "[]"), "cannot be read: it holds no object"),
        (
            lambda folder: spoil(folder, "cases.json", '{"schema_version": "2.0.0"}'),
            "version 2.0.0",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(folder, capsys, spoilt, says):
    status, out, err = run(capsys, "verify", spoilt(folder))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err


def test_a_folder_that_cannot_be_written_is_one_line(folder, capsys):
    for path, says in (("cases.json", "is not a folder"), ("cases.json/new", "cannot write to")):
        status, out, err = run(capsys, "export", folder / path)
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        assert says in err


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_export_writes_through_no_link_and_waits_for_no_pipe(tmp_path, capsys, vectors):
    (tmp_path / "elsewhere").write_text("mine")
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "cases.json").symlink_to(tmp_path / "elsewhere")
    (folder / MANIFEST).symlink_to("nowhere")
    os.mkfifo(folder / "layer_norm-float32.npz")
    assert run(capsys, "export", folder)[0] == 0
    assert (tmp_path / "elsewhere").read_text() == "mine"
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert written == {path.name: path.read_bytes() for path in vectors.iterdir()}


def test_a_disk_that_is_full_is_one_line_and_leaves_what_was_there(folder, capsys, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(self, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zipfile.ZipFile.writestr", full)
    status, out, err = run(capsys, "export", folder)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"cannot write to {folder}: No space left on device" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("words", [[], ["export"], ["import", "x"]])
def test_a_wrong_word_is_wrong_usage(words):
    with pytest.raises(SystemExit) as error:
        main(["golden", *words])
    assert error.value.code == 2
