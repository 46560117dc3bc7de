"""`grade` of a class of students, of classes with two methods, and from a notebook."""

import csv
import io
import json

import numpy as np
import pytest

from numpy_norms.cli import main
from numpy_norms.verify import grade

PARTS = """
import numpy as np

def parts(x, axis, eps):
    mean = x.mean(axis, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axis, keepdims=True) + eps)
    return rstd * (x - mean), rstd

def dx_of(g, x_hat, rstd, axis):
    mean, along = g.mean(axis, keepdims=True), (g * x_hat).mean(axis, keepdims=True)
    return rstd * (g - mean - x_hat * along)
"""
LAYER = """
class Base:
    def forward(self, x):
        self.h, self.r = parts(x, -1, self.eps)
        return {gamma} * self.h + {beta}

    def backward(self, dout):
        rows = tuple(range(dout.ndim - 1))
        dgamma, dbeta = (dout * self.h).sum(rows), dout.sum(rows)
        dx = {factor} * dx_of({gamma} * dout, self.h, self.r, -1)
        {end}

class LayerNorm(Base):
    def __init__(self, {takes}):
        {begin}
"""
OWN = {
    "gamma": "self.gamma",
    "beta": "self.beta",
    "factor": 1,
    "end": "return dx, dgamma, dbeta",
    "takes": "gamma, beta, eps",
    "begin": "self.gamma, self.beta, self.eps = gamma, beta, eps",
}
FORMS = {
    "parameters are passed": {},
    "sizes are passed, gradients kept": {
        "takes": "num_features, eps=1e-5",
        "begin": "self.eps = eps; self.weight = np.ones((1, num_features)); "
        "self.bias = np.zeros((1, num_features))",
        "gamma": "self.weight",
        "beta": "self.bias",
        "end": "self.dweight, self.dbias = dgamma, dbeta; return dx",
    },
    "parameters and gradients are in dicts": {
        "takes": "d_model, momentum=0.9",
        "begin": "self.eps = 1e-5; self.grads = {}; "
        "self.params = {'gamma': np.ones(d_model), 'beta': np.zeros(d_model)}",
        "gamma": "self.params['gamma']",
        "beta": "self.params['beta']",
        "end": "self.grads['gamma'], self.grads['beta'] = dgamma, dbeta; return dx",
    },
    "gradients have a row too many": {
        "end": "self.grad_gamma, self.grad_beta = dgamma[None], dbeta[None]; return (dx,)"
    },
}


def source(**changed):
    return PARTS + LAYER.format_map(OWN | changed)


def made(text, name="LayerNorm"):
    names = {"__name__": "homework"}
    exec(text, names)
    return names[name]


@pytest.fixture
def mark(tmp_path, capsys, _in_this_process):
    def mark(text, *words, name="hw.py"):
        (tmp_path / name).write_text(text)
        status = main(["grade", f"{tmp_path / words[0]}", "--norm", "layer_norm", *words[1:]])
        return status, capsys.readouterr()

    return mark


@pytest.mark.parametrize("form", FORMS)
def test_a_class_with_both_passes_is_graded(mark, form):
    status, said = mark(source(**FORMS[form]), "hw.py:LayerNorm")
    assert (status, said.err) == (0, "")
    assert all(f"{name} " in said.out for name in ("y", "dx", "dgamma", "dbeta"))
    assert "29 of 29 cases are right" in said.out


Y = "self.gamma * self.h + self.beta"
SLOTS = """__slots__ = "h", "r", "eps", "weight", "bias", "dweight", "dbias"
"""
STATIC = """
class LayerNorm:
    @staticmethod
    def forward(x, gamma, beta, eps):
        h, r = parts(x, -1, eps)
        return [gamma * h + beta, (gamma, h, r)]

    @classmethod
    def backward(cls, dout, cache):
        gamma, h, r = cache
        rows = tuple(range(dout.ndim - 1))
        return dx_of(gamma * dout, h, r, -1), (dout * h).sum(rows), dout.sum(rows)
"""
SHAPED = {
    "attributes in slots": source(**FORMS["sizes are passed, gradients kept"])
    .replace("class Base:", "class Base:\n    " + SLOTS)
    .replace("(Base):", "(Base):\n    __slots__ = ()"),
    "static passes": PARTS + STATIC,
    "y in a list": source().replace(Y, f"[{Y}, self.r]"),
    "y as a list of rows": source().replace(Y, f"list({Y})"),
}


@pytest.mark.parametrize("how", SHAPED)
def test_a_class_of_an_unusual_build_is_graded(mark, how):
    status, said = mark(SHAPED[how], "hw.py:LayerNorm")
    assert (status, said.err) == (0, "")
    assert "29 of 29 cases are right" in said.out


@pytest.mark.parametrize("form", FORMS)
def test_what_is_wrong_in_a_class_is_named(mark, form):
    status, said = mark(source(**FORMS[form], factor=2), "hw.py:LayerNorm")
    assert status == 1
    assert "your dx: it equals ours, but dx is counted twice" in said.out
    assert "dgamma  right" in said.out


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"begin": "self.eps = eps", "takes": "n, eps=1e-5"}, "LayerNorm has no attribute gamma"),
        ({"takes": "rows, columns"}, "LayerNorm(rows, columns) cannot be made"),
        ({"end": "return dx"}, "dgamma is missing: neither returned by backward nor kept"),
        ({"begin": "raise ValueError('no')"}, "LayerNorm.__init__ raised ValueError: no"),
        ({"end": "dx.no_such"}, "LayerNorm.backward raised AttributeError"),
    ],
)
def test_a_class_that_cannot_be_graded_says_why(mark, changed, says):
    status, said = mark(source(**changed), "hw.py:LayerNorm")
    assert status == 1
    assert says in said.out


def test_a_class_without_the_passes_is_wrong_usage(mark):
    status, said = mark("class Norm:\n    pass\n", "hw.py:Norm")
    assert status == 2
    assert "without forward and backward methods" in said.err


FUNCTIONS = """
def {name}_forward(x, gamma, beta, eps):
    h, r = parts(x, -1, eps)
    return gamma * h + beta, (h, r, gamma)

def {name}_backward(dout, cache):
    h, r, gamma = cache
    rows = tuple(range(dout.ndim - 1))
    return dx_of(gamma * dout, h, r, -1), (dout * h).sum(rows), dout.sum(rows)
"""


@pytest.mark.parametrize(
    "text",
    [
        FUNCTIONS.format(name="my"),
        FUNCTIONS.format(name="batchnorm").replace("-1", "0") + FUNCTIONS.format(name="layernorm"),
        FUNCTIONS.format(name="layernorm")
        + FUNCTIONS.format(name="layernorm").replace("def layernorm", "def layernorm_fast"),
        LAYER.format_map(OWN),
    ],
)
def test_of_a_file_alone_the_pass_that_is_meant_is_found(mark, text):
    status, said = mark(PARTS + text, "hw.py")
    assert (status, said.err) == (0, "")


def test_of_a_file_with_two_that_may_be_meant_none_is_guessed(mark):
    both = "def a_backward(dy, x): ...\ndef b_backward(dy, x): ...\n"
    status, said = mark(both, "hw.py")
    assert status == 2
    assert "found: a_backward, b_backward" in said.err
    assert "found: retro)" in mark("def retro(x): ...\n", "hw.py")[1].err


@pytest.fixture
def students(tmp_path):
    files = {
        "anna.py": PARTS + FUNCTIONS.format(name="layernorm"),
        "ben/homework.py": PARTS + FUNCTIONS.format(name="layernorm").replace("gamma * d", "d"),
        "carl.py": "import no_such_module\n",
        "=evil.py": source(),
        "dora.ipynb": "{}",
        ".hidden/x.py": "",
        "__pycache__/y.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.usefixtures("_in_this_process")
def test_a_folder_is_marked_file_by_file(students, capsys):
    assert main(["grade", str(students), "--norm", "layer_norm", "--csv"]) == 1
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert list(rows) == ["'=evil.py", "anna.py", "ben/homework.py", "carl.py", "dora.ipynb"]
    assert {name for name, row in rows.items() if row["right"] == row["cases"]} == {
        "anna.py",
        "'=evil.py",
    }
    ben = rows["ben/homework.py"]
    assert [ben[name] for name in ("y", "dx", "dgamma", "dbeta")] == [
        *["right", "wrong"],
        *["right"] * 2,
    ]
    assert ben["says"].startswith("your dx: ")
    assert "No module named 'no_such_module'" in rows["carl.py"]["says"]
    says = rows["dora.ipynb"]["says"]
    assert "is a notebook; call numpy_norms.verify.grade in it" in says
    main(["grade", str(students), "--norm", "layer_norm"])
    assert says in " ".join(capsys.readouterr().out.split())  # however wide the terminal is


def test_a_file_that_ends_its_process_does_not_end_the_marking(tmp_path, capsys):
    (tmp_path / "a.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "b.py").write_text(source())
    assert main(["grade", str(tmp_path), "--norm", "layer_norm", "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert "ended its process" in first["says"]
    assert second["right"] == second["cases"]


@pytest.mark.usefixtures("_in_this_process")
def test_a_folder_is_marked_by_a_name_too(students, capsys):
    assert main(["grade", f"{students}:LayerNorm", "--norm", "layer_norm", "--json"]) == 1
    marks = {line["file"]: line for line in json.loads(capsys.readouterr().out)}
    assert marks["=evil.py"]["right"] == marks["=evil.py"]["cases"]
    assert "no function LayerNorm" in marks["anna.py"]["says"]


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--csv"], "--csv is for a folder"), ([], "there is no Python file in")],
)
def test_wrong_usage_of_folders_is_one_line(tmp_path, capsys, words, says):
    target = tmp_path
    if words:
        target = tmp_path / "hw.py"
        target.write_text("")
    assert main(["grade", str(target), "--norm", "layer_norm", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize("form", FORMS)
def test_a_notebook_gets_the_words_of_the_command(mark, form):
    text = source(**FORMS[form], factor=2)
    _, said = mark(text, "hw.py:LayerNorm", "--seed", "3")
    here = grade(made(text), "layer_norm", seed=3)
    assert not here.passed
    assert str(here).splitlines()[1:] == said.out.splitlines()[1:]
    assert repr(here).startswith("LayerNorm as layer_norm class")


def test_a_pair_and_a_part_are_graded_from_a_notebook():
    text = PARTS + FUNCTIONS.format(name="my")
    pair = made(text, "my_forward"), made(text, "my_backward")
    assert grade(pair, "layer_norm").passed
    assert grade(np.tanh, "layer_norm", part="forward").wrong == ["y"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((print, "norm"), "norm is 'norm'"),
        ((lambda q: q, "layer_norm"), "say which with part="),
        ((lambda dy, cache: dy, "layer_norm"), r"as \(forward,<lambda>\)"),
        ((np.tanh, "layer_norm", "fwd"), "part is 'fwd'; pass one of 'forward', 'backward'"),
        ((np.tanh, "group_norm", "forward", 2), "^rank=2 is not .*; pass 3, 4 or 5"),
    ],
)
def test_what_cannot_be_graded_is_a_value_error(arguments, says):
    function, norm, part, rank = (*arguments, None, None)[:4]
    with pytest.raises(ValueError, match=says):
        grade(function, norm, part=part, rank=rank)


@pytest.mark.parametrize("function", ["backward", None, (), {np.tanh}])
def test_what_is_no_function_is_a_type_error(function):
    with pytest.raises(TypeError, match="pass it itself"):
        grade(function, "layer_norm")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"g.mean(axis, ": "g.sum(axis, "}, "you summed the mean term of dx"),
        ({"g.mean(axis, ": "g.sum(axis, ", "x_hat).mean(": "x_hat).sum("}, "average over m = 13"),
        ({"return rstd * (g": "return rstd / 13 * (g"}, "you multiplied dx by 0.0769231"),
        (
            {"(dout * h).sum(": "(dout * h).mean("},
            "you averaged dgamma over 35 rows; its terms are added",
        ),
    ],
)
def test_a_mistake_is_named_and_not_only_its_formula(mark, changes, says):
    text = PARTS + FUNCTIONS.format(name="my")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    _, said = mark(text, "hw.py")
    assert says in said.out


def test_the_axes_of_another_norm_are_named(mark):
    text = PARTS + FUNCTIONS.format(name="my").replace(", -1", ", (0, 1)")
    _, said = mark(text, "hw.py:my_forward")
    assert "over the rows: batch norm's axes" in said.out


def test_what_raised_is_said_once_and_equals_nothing():
    def backward(dy, x, gamma, beta, eps):
        return {}["x_hat"]

    (reason,) = grade(backward, "layer_norm", rank=4).reasons()
    assert reason.endswith("backward raised KeyError: 'x_hat'")
