"""`grade`: right functions pass in every form, wrong ones are named, bad files are one line."""

import json
import re
from pathlib import Path

import pytest

from numpy_norms.cli import main
from numpy_norms.commands.grade.student import Student

HOMEWORK = """
import numpy as np
print("this is printed while the file is imported")

def parts(x, eps):
    mean = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    return (x - mean) * rstd, rstd

def gradients(dy, x, gamma, eps, outer=1, center=1, project=1):
    h, r = parts(x, eps)
    g = gamma * dy
    rows = tuple(range(x.ndim - 1))
    mean, along = g.mean(-1, keepdims=True), (g * h).mean(-1, keepdims=True)
    dx = outer * r * (g - center * mean - project * h * along)
    return dx, (dy * h).sum(rows), dy.sum(rows)

def backward(dy, x, gamma, beta, eps):
    return gradients(dy, x, gamma, eps)

def named_otherwise_backward(grad_output, input, weight, bias, epsilon=1e-5):
    return gradients(grad_output, input, weight, epsilon)

def in_another_order_backward(eps, gamma, dy, beta, x):
    return gradients(dy, x, gamma, eps)

def in_our_order_backward(a, b, c, d, e):
    return gradients(a, b, c, e)

def starred_backward(*arguments):
    return backward(*arguments)

def by_keywords_backward(**named):
    return backward(**named)

def narrow_backward(dy, x, gamma, beta, eps):
    return [a.astype(np.float32) for a in gradients(dy, x, gamma, eps)]

def copied_backward(dy, x, gamma, beta, eps):
    return dy, *gradients(dy, x, gamma, eps)[1:]

def forward(x, gamma, beta, ln_param):
    h, r = parts(x, ln_param["eps"])
    return gamma * h + beta, (x, gamma, ln_param["eps"])

def cached_backward(dout, cache):
    return gradients(dout, *cache)

def flat_backward(dy, x, gamma, beta, eps):
    h, r = parts(x, eps)
    g = gamma * dy
    dx = r * (g - g.mean(1, keepdims=True) - h * (g * h).mean(1, keepdims=True))
    return dx, (dy * h).sum(0), dy.sum(0)

def no_mean_backward(dy, x, gamma, beta, eps):
    return gradients(dy, x, gamma, eps, center=0)

def half_mean_backward(dy, x, gamma, beta, eps):
    return gradients(dy, x, gamma, eps, center=0.5)

def constants_backward(dy, x, gamma, beta, eps):
    return gradients(dy, x, gamma, eps, center=0, project=0)

def doubled_backward(dy, x, gamma, beta, eps):
    return gradients(dy, x, gamma, eps, outer=2)

def gamma_outside_backward(dy, x, gamma, beta, eps):
    dx, dgamma, dbeta = gradients(dy, x, np.ones_like(gamma), eps)
    return gamma * dx, dgamma, dbeta

def one_pass_forward(x, gamma, beta, eps):
    mean = x.mean(-1, keepdims=True)
    var = (x * x).mean(-1, keepdims=True) - mean**2
    return gamma * (x - mean) / np.sqrt(var + eps) + beta

def spoiling_backward(dy, x, gamma, beta, eps):
    found = gradients(dy, x, gamma, eps)
    dy *= 2
    return found

def nan_backward(dy, x, gamma, beta, eps):
    dx, dgamma, dbeta = gradients(dy, x, gamma, eps)
    dx[0] = np.nan
    return dx, dgamma, dbeta

def none_backward(dy, x, gamma, beta, eps):
    gradients(dy, x, gamma, eps)

def one_backward(dy, x, gamma, beta, eps):
    return gradients(dy, x, gamma, eps)[0]

def two_backward(dy, x, gamma, beta, eps):
    return gradients(dy, x, gamma, eps)[:2]

def four_backward(dy, x, gamma, beta, eps):
    return *gradients(dy, x, gamma, eps), eps

def wide_backward(dy, x, gamma, beta, eps):
    dx, dgamma, dbeta = gradients(dy, x, gamma, eps)
    return dx, np.stack([dgamma] * 2), dbeta

def text_backward(dy, x, gamma, beta, eps):
    return "dx", *gradients(dy, x, gamma, eps)[1:]

class Hidden:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")

def hidden_backward(dy, x, gamma, beta, eps):
    return Hidden(), *gradients(dy, x, gamma, eps)[1:]

def leaving_backward(dy, x, gamma, beta, eps):
    raise SystemExit(0)

def broken_pair_backward(dy, cache):
    return dy + None

def raising_backward(dy, x, gamma, beta, eps):
    return dy / {}["nothing"]

def only_small_backward(dy, x, gamma, beta, eps):
    if x.ndim > 3:
        raise RuntimeError("too many axes")
    return gradients(dy, x, gamma, eps)

def blank_backward(dy, x, gamma, beta, eps):
    return ..., *gradients(dy, x, gamma, eps)[1:]

def either(a, b):
    return a

def too_few_backward(a, b):
    return a

NUMBER = 3
"""


@pytest.fixture(scope="module")
def homework(tmp_path_factory):
    """A file of right and wrong functions for layer norm."""
    file = tmp_path_factory.mktemp("homework") / "hw.py"
    file.write_text(HOMEWORK)
    return file


@pytest.fixture
def grade(homework, capsys, _in_this_process):
    """Grade a function of the file and return the status, stdout and stderr."""

    def run(name, *words, norm="layer_norm"):
        status = main(["grade", f"{homework}:{name}", "--norm", norm, *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def graded_file(tmp_path, capsys):
    """Grade a function of a file of this content, in a process of its own."""

    def run(content, target="wrong.py:f", *words):
        (tmp_path / target.partition(":")[0]).write_bytes(content)
        status = main(["grade", f"{tmp_path / target}", "--norm", "layer_norm", *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    "name",
    [
        "backward",
        "named_otherwise_backward",
        "in_another_order_backward",
        "in_our_order_backward",
        "starred_backward",
        "by_keywords_backward",
        "forward",
        "forward,cached_backward",
    ],
)
def test_a_right_function_passes_in_every_form(grade, name):
    status, out, _ = grade(name)
    assert status == 0
    assert re.search(r"^(\d\d) of \1 cases are right$", out, re.MULTILINE)
    assert "diagnosis" not in out


@pytest.mark.parametrize(
    ("takes", "given"),
    [
        ("x, upstream, gamma, beta, eps", "x dy gamma beta eps"),
        ("x, upstream, w, b, eps", "x dy gamma beta eps"),
        ("x, upstream, γ, β, ε", "x dy gamma beta eps"),
        ("x, upstream, scale_, shift_, eps", "x dy gamma beta eps"),
        ("x, dy, gamma, beta, eps, /", "x dy gamma beta eps"),
        ("*, x, upstream, gamma, beta, eps", "x dy gamma beta eps"),
        ("x, dy, gamma, beta, eps, **others", "x dy gamma beta eps"),
        ("x, dy, *others", "x dy gamma beta eps"),
        ("a, b, c, d, e", "dy x gamma beta eps"),
        ("a, b, c, d, e=1e-5", "dy x gamma beta eps"),
        ("x, upstream, gamma, beta, axis=-1, eps=1e-5", "x dy gamma beta -1 eps"),
        ("x, G, g, b, eps", "x num_groups gamma beta eps"),
        ("saved, dout", "cache dy"),
    ],
)
def test_a_known_name_never_gets_another_argument(takes, given):
    names = {}
    exec(f"def f({takes}): return [*locals().values()]", names)
    asked = "x num_groups gamma beta eps" if "G" in takes else "dy x gamma beta eps"
    asked = "dy cache" if "saved" in takes else asked
    got = Student(Path("hw.py"), "f", names["f"])({name: name for name in asked.split()})
    flat = [v for value in got for v in (value if isinstance(value, tuple) else (value,))]
    assert " ".join(str(v) for v in flat if v != {}) == given


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_mean_backward", "your dx: you left the mean term out of dx"),
        (
            "half_mean_backward",
            "your dx: it equals ours, but the mean term r E[dx_hat] is halved",
        ),
        ("doubled_backward", "your dx: it equals ours, but dx is counted twice"),
        (
            "gamma_outside_backward",
            "it equals ours, but gamma is outside of the averages",
        ),
        ("constants_backward", "you held the mean and the variance constant"),
    ],
)
def test_the_mistake_is_named(grade, name, says):
    status, out, _ = grade(name, "--seed", "7")
    assert status == 1
    assert says in out
    assert "dgamma  right" in out
    assert "relative to the largest value of the output that is expected" in out


def test_a_mistake_that_ordinary_inputs_hide_is_named(grade):
    status, out, _ = grade("one_pass_forward")
    assert status == 1
    assert "y       right" in out
    assert "large_offset" in out
    assert "var = E[x^2] - E[x]^2" in out


def kernel_file(folder, norm, name, part):
    """Write a file whose function is a kernel of the catalogue."""
    file = folder / "kernel.py"
    file.write_text(
        "from numpy_norms.verify import mutants\n"
        f"kernel = next(m for m in mutants({norm!r}) if m.name == {name!r}).{part}\n"
    )
    return f"{file}:kernel"


@pytest.mark.parametrize(
    ("norm", "name"),
    [
        ("batch_norm", "projection_dropped"),
        ("layer_norm", "gamma_forgotten"),
        ("group_norm", "eps_outside_root"),
        ("instance_norm", "gamma_forgotten"),
        ("rms_norm", "projection_dropped"),
    ],
)
@pytest.mark.usefixtures("_in_this_process")
def test_a_mutant_is_named_as_what_it_is(norm, name, tmp_path, capsys):
    target = kernel_file(tmp_path, norm, name, "backward")
    status = main(["grade", target, "--norm", norm, "--part", "backward", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == 1
    assert {finding["name"] for finding in found["findings"]} == {name}


@pytest.mark.usefixtures("_in_this_process")
def test_batch_norm_written_for_two_axes_is_graded_on_two(tmp_path, capsys):
    file = tmp_path / "flat.py"
    file.write_text(
        "def forward(x, gamma, beta, eps):\n"
        "    return gamma * (x - x.mean(0)) / (x.var(0) + eps) ** 0.5 + beta\n"
    )
    assert main(["grade", f"{file}:forward", "--norm", "batch_norm"]) == 1
    assert "--rank 2 grades that" in capsys.readouterr().out
    assert main(["grade", f"{file}:forward", "--norm", "batch_norm", "--rank", "2"]) == 0


def test_a_function_of_features_written_for_two_axes_is_graded_on_two(grade):
    assert grade("flat_backward", "--rank", "2")[0] == 0


def test_a_function_for_three_axes_is_told_so(grade):
    status, out, _ = grade("only_small_backward")
    assert status == 1
    assert "RuntimeError: too many axes" in out


def test_an_argument_that_is_overwritten_is_a_mistake(grade):
    status, out, _ = grade("spoiling_backward")
    assert status == 1
    assert "dy: the argument was overwritten" in out


def test_nan_is_wrong_and_one_line(grade):
    status, out, err = grade("nan_backward")
    assert status == 1
    assert re.search(r"^dx has \d+ of \d+ values not finite$", err, re.MULTILINE)
    assert "not finite" in out


def test_json_is_json_even_with_nan(grade):
    status, out, _ = grade("nan_backward", "--json")
    found = json.loads(out)
    assert (status, found["passed"], found["wrong"]) == (1, False, ["dx"])


def test_what_a_process_of_its_own_prints_does_not_spoil_the_output(homework, capsys):
    assert main(["grade", f"{homework}:backward", "--norm", "layer_norm", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["passed"]
    assert "while the file is imported" in captured.err
    assert [path.name for path in homework.parent.iterdir()] == ["hw.py"]


@pytest.mark.parametrize(
    ("name", "says", "right"),
    [
        ("none_backward", "none_backward returned None; expected dx, dgamma, dbeta", []),
        ("one_backward", "dgamma is missing: one_backward returned 1 value; expected 3", ["dx"]),
        ("two_backward", "dbeta is missing: two_backward returned 2 values", ["dx", "dgamma"]),
        ("four_backward", "four_backward returned 4 values; expected 3: dx, dgamma, dbeta", []),
        ("wide_backward", "was expected, the shape of gamma", ["dx", "dbeta"]),
        (
            "text_backward",
            "dx is a str, but an array of real numbers was expected",
            ["dgamma", "dbeta"],
        ),
        ("blank_backward", "dx is still a blank (...), but an array", ["dgamma", "dbeta"]),
        ("hidden_backward", "dx is not an array: RuntimeError: no", ["dgamma", "dbeta"]),
        ("raising_backward", "hw.py:LINE: raising_backward raised KeyError: 'nothing'", []),
        ("leaving_backward", "hw.py:LINE: leaving_backward raised SystemExit: 0", []),
        ("too_few_backward", "cannot be called with (dy, x, gamma, beta, eps)", []),
        ("forward,broken_pair_backward", "raised TypeError", ["y"]),
    ],
)
def test_the_right_parts_of_a_wrong_answer_are_graded(grade, name, says, right):
    status, out, _ = grade(name, "--json")
    found = json.loads(out)
    assert (status, found["passed"]) == (1, False)
    said = re.sub(r":\d+:", ":LINE:", " ".join(found["failures"].values()))
    assert says in said
    assert [n for n in ("y", "dx", "dgamma", "dbeta") if n in found["differences"]] == right
    assert not set(right) & set(found["wrong"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cached_backward", "takes a cache; give the forward pass that makes it too"),
        ("either", "may be either pass; say which with --part"),
        ("backward_", "did you mean backward?"),
        ("nothing_like_it", "has no function nothing_like_it; it has parts, gradients"),
        ("NUMBER", "NUMBER in hw.py is int, not a function"),
        ("forward,backward,parts", "3 functions given"),
        ("", "names no function"),
    ],
)
def test_what_is_not_there_is_one_line(grade, name, says):
    status, out, err = grade(name)
    said = [line for line in err.splitlines() if "printed while" not in line]
    assert (status, out, len(said)) == (2, "", 1)
    assert says in said[0]


def test_the_traceback_is_shown_when_asked_for(grade):
    assert "wrong: hw.py:" in (out := grade("raising_backward")[1])
    assert (out.count("wrong: "), out.count("--traceback shows where")) == (1, 1)
    status, _, err = grade("raising_backward", "--traceback")
    assert status == 1
    assert "Traceback (most recent call last)" in err
    assert 'return dy / {}["nothing"]' in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"def f(:", "wrong.py:1 is no Python: SyntaxError"),
        (b"\x89PNG\r\n\0\0", "is no Python"),
        (b"x = '\xff'", "; save it as UTF-8"),
        ("x = 1".encode("utf-16"), "; save it as UTF-8"),
        (b"import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (b"import sys; sys.exit(0)", "importing wrong.py raised SystemExit: 0"),
        (b"raise KeyboardInterrupt", "importing wrong.py raised KeyboardInterrupt"),
        (b"raise ValueError('one\\ntwo')", "importing wrong.py raised ValueError: one"),
    ],
)
@pytest.mark.usefixtures("_in_this_process")
def test_a_file_that_cannot_be_imported_is_wrong(graded_file, content, says):
    status, out, _ = graded_file(content)
    assert (status, out.count("wrong: ")) == (1, 1)
    assert says in out
    assert out.count("\n") <= 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"import os; os._exit(0)", "wrong.py ended its process with exit status 0"),
        (b"while True: print('x' * 1000)", "wrong.py printed more than 1 MiB"),
    ],
)
def test_a_file_that_ends_its_process_is_wrong(graded_file, content, says):
    status, out, err = graded_file(content)
    assert (status, out.count("wrong: ")) == (1, 1)
    assert says in out
    assert out.count("\n") <= 4
    assert len(err) < 11_000


@pytest.mark.usefixtures("_in_this_process")
def test_a_file_without_functions_is_one_line(graded_file):
    status, out, err = graded_file(b"")
    assert (status, out) == (2, "")
    assert "has no function f; it has none" in err


IN_THE_MIDDLE = """
import os, sys, time
import numpy as np
calls = 0

def backward(dy, x, gamma, beta, eps):
    global calls
    calls += 1
    if calls == 3:
        {does}
    mean = x.mean(-1, keepdims=True)
    r = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    h, g, rows = (x - mean) * r, gamma * dy, tuple(range(x.ndim - 1))
    dx = r * (g - g.mean(-1, keepdims=True) - h * (g * h).mean(-1, keepdims=True))
    return dx, (dy * h).sum(rows), dy.sum(rows)
"""


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("sys.exit(0)", "raised SystemExit: 0"),
        ("np.ones(1 << 44)", "MemoryError"),
        ("calls.sort()", "raised AttributeError: 'int' object has no attribute 'sort'"),
    ],
)
@pytest.mark.usefixtures("_in_this_process")
def test_what_is_raised_in_the_middle_is_told_and_the_rest_is_graded(graded_file, does, says):
    found, total, out = in_the_middle(graded_file, does)
    assert says in out
    assert found == total - 1


@pytest.mark.parametrize(
    ("does", "says", "right"),
    [
        ("os._exit(0)", "hw.py ended its process with exit status 0 in the case", 2),
        ("time.sleep(60)", "hw.py took longer than 3 s in the case", 2),
        ("np.testing.assert_allclose = np.isclose = print", "changed NumPy: numpy.isclose", 29),
    ],
)
def test_an_end_in_the_middle_is_told_and_what_came_before_is_graded(
    graded_file, does, says, right
):
    found, _, out = in_the_middle(graded_file, does, *["--timeout", "3"] * ("sleep" in does))
    assert says in out
    assert found == right


def in_the_middle(graded_file, does, *words):
    content = IN_THE_MIDDLE.format(does=does).encode()
    status, out, _ = graded_file(content, "hw.py:backward", *words)
    assert status == 1
    assert "dx      right" in out
    found, total = re.search(r"^(\d+) of (\d+) cases are right$", out, re.M).groups()
    return int(found), int(total), out


def test_a_limit_of_time_is_a_time(grade):
    for text in ("0", "-1", "nan", "inf", "soon", "1e9"):
        with pytest.raises(SystemExit) as stop:
            grade("backward", "--timeout", text)
        assert stop.value.code == 2


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere.py:f", "there is no file nowhere.py"),
        ("f", "names no function; expected FILE.py:function"),
        ("", "names no function"),
        ("nowhere.ipynb", "there is no file nowhere.ipynb"),
        (__file__.replace(".py", ".txt") + ":f", "there is no file"),
    ],
)
def test_a_file_that_is_not_there_is_one_line(capsys, target, says):
    assert main(["grade", target, "--norm", "layer_norm"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (
            "the mean term of dx is summed where the average over m is meant",
            "you summed the mean term of dx where the average over m = 13 is meant",
        ),
        (
            "dgamma is averaged over its n terms, which are added in the definition",
            "you averaged dgamma over 35 rows; its terms are added",
        ),
        ("dgamma is divided by N", "you divided dgamma by N"),
        (
            "the mean and the variance are taken over the rows: batch norm's axes",
            "you took the mean and the variance over the rows: batch norm's axes",
        ),
        ("one is added to gamma", "it equals ours, but one is added to gamma"),
    ],
)
def test_what_is_wrong_is_said_to_its_author_with_the_sizes(what, says):
    from numpy_norms.commands.grade.words import in_your_words
    from numpy_norms.verify import Finding, cases

    case = cases("layer_norm", dtype="float64")[0]
    assert in_your_words(Finding("dx", "factor", what), case) == f"your dx: {says}"


def test_what_no_option_of_grade_allows_is_not_offered(grade):
    _, out, _ = grade("narrow_backward")
    assert "is computed in float32: its errors are those of such a kernel" in out
    assert "accumulate" not in out


def test_a_dx_that_is_dy_is_named(grade):
    _, out, _ = grade("copied_backward")
    assert "dx is computed as dy" in out
