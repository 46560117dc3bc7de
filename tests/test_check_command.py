"""`python -m numpy_norms check`: it agrees with itself, and with nothing that is wrong."""

import contextlib
import io
import json
import pickle
import re
from math import log10
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import numpy_norms
from numpy_norms.cli import main
from numpy_norms.commands.check import command, oracles
from numpy_norms.commands.check.activations import load_activations
from numpy_norms.commands.check.cases import article_case, small_case, why_not
from numpy_norms.commands.check.report import Report
from numpy_norms.oracle.sets import SIX_NORMS

FIGURE = re.compile(r"\d+\.\d\d\b|\de[+-]\d\d")
ROUTES = ("106 bits", "complex step", "central differences", "PyTorch")


def check(*words):
    """Run `check --json` and return its exit status and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["check", "--json", *words])
    return status, json.loads(out.getvalue())


def table(capsys, *words):
    status = main(["check", *words])
    return status, capsys.readouterr().out


@pytest.fixture(scope="module")
def printed():
    """What `check` prints, and as JSON, of one run, which takes seconds."""
    tables, figures = io.StringIO(), io.StringIO()
    watched = mock.patch.object(command, "Report", wraps=Report)
    with watched as made, contextlib.redirect_stdout(tables):
        assert main(["check"]) == 0
    with contextlib.redirect_stdout(figures):
        Report(*made.call_args.args, **made.call_args.kwargs).print_json()
    return tables.getvalue(), json.loads(figures.getvalue())


@pytest.fixture(scope="module")
def everything(printed):
    return printed[1]


def test_the_readme_shows_what_it_prints(printed):
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    shown = re.search(r"^\$ python -m numpy_norms check\n(.*?)^```", readme, re.M | re.S)[1]
    pairs = zip(shown.splitlines(), printed[0].splitlines(), strict=True)
    for mine, theirs in pairs:
        assert skeleton(mine) == skeleton(theirs)
        for a, b in zip(FIGURE.findall(mine), FIGURE.findall(theirs), strict=True):
            assert abs(log10(float(a) + 1e-17) - log10(float(b) + 1e-17)) <= 1 or max(a, b) < "0.1"


def skeleton(line):
    """Return what must be equal: words, shapes, verdicts and counts; not figures and versions."""
    line = re.sub(r"─+", "─", re.sub(r"\d+\.\d+\.\d+", "VERSION", line))
    return re.sub(r"\d+\.\d s$", "SECONDS", FIGURE.sub("#", line)).split()


def test_everything_agrees(everything):
    assert everything["agrees"] is True
    assert all(finding["agrees"] for finding in everything["findings"])


@pytest.mark.parametrize("norm", SIX_NORMS)
def test_every_gradient_is_checked_by_every_route(everything, norm):
    findings = [f for f in everything["findings"] if f["norm"] == norm]
    gradients = {f"d{name}" for name in small_case(norm, 0).arrays}
    for route in ROUTES:
        checked = {f["output"] for f in findings if f["route"] == route}
        # PyTorch has no gradients for the statistics of an inference pass.
        missing = {"drunning_mean", "drunning_var"} if route == "PyTorch" else set()
        assert checked - {"y"} == gradients - missing


def test_the_inputs_are_those_of_the_article(everything):
    shapes = {
        f["label"]: tuple(f["shape"]) for f in everything["findings"] if f["route"] == "106 bits"
    }
    assert shapes == {
        "batch_norm": (20, 10, 50, 50),
        "batch_norm_inference": (20, 10, 50, 50),
        "group_norm, 2 groups": (20, 10, 50, 50),
        "instance_norm": (20, 10, 50, 50),
        "layer_norm, axis -1": (20, 10, 1000),
        "rms_norm, axis -1": (20, 10, 1000),
    }


def test_float32_results_are_rounded_once(everything):
    errors = [f["error"] for f in everything["findings"] if f["dtype"] == "float32"]
    assert len(errors) == 25
    assert 0.49 < max(errors) <= 0.51


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The words that have a small array checked in place of the article's."""
    file = tmp_path_factory.mktemp("check") / "x.npy"
    np.save(file, random((4, 5, 3), "f4", 3, 2))
    return "--input", str(file)


def test_figures_depend_on_the_seed_alone(small):
    first, again, other = (check("rms_norm", "--seed", seed, *small)[1] for seed in "112")
    assert first["findings"] == again["findings"]
    assert first["findings"] != other["findings"]


def spoil_backward(monkeypatch, norm, index, change):
    """Have one gradient of `norm` come out changed."""
    name = f"{norm}_backward"
    right = getattr(numpy_norms, name)

    def wrong(dy, cache):
        gradients = list(right(dy, cache))
        gradients[index] = change(gradients[index])
        return tuple(gradients)

    monkeypatch.setattr(numpy_norms, name, wrong)


@pytest.mark.parametrize(
    "change",
    [np.negative, np.zeros_like, lambda g: g * g.dtype.type(1.001), lambda g: g * np.nan],
    ids=["sign", "zero", "a thousandth", "NaN"],
)
@pytest.mark.parametrize(("index", "output"), [(0, "dx"), (1, "dgamma"), (2, "dbeta")])
def test_a_wrong_gradient_is_found_by_every_route(monkeypatch, small, index, output, change):
    spoil_backward(monkeypatch, "layer_norm", index, change)
    status, report = check("layer_norm", *small)
    wrong = {(f["route"], f["output"]) for f in report["findings"] if not f["agrees"]}
    assert status == 1
    assert wrong == {(route, output) for route in ROUTES}


def test_a_wrong_forward_is_found_by_106_bits_and_pytorch(monkeypatch, small):
    right = numpy_norms.layer_norm_forward
    monkeypatch.setattr(
        numpy_norms, "layer_norm_forward", lambda *a, eps, **k: right(*a, eps=eps * 1.001, **k)
    )
    status, report = check("layer_norm", *small)
    wrong = {f["route"] for f in report["findings"] if f["output"] == "y" and not f["agrees"]}
    assert (status, wrong) == (1, {"106 bits", "PyTorch"})


def test_a_disagreement_is_named_with_the_command_that_repeats_it(monkeypatch, capsys):
    spoil_backward(monkeypatch, "rms_norm", 0, np.negative)
    status, out = table(capsys, "rms_norm", "--seed", "3")
    assert status == 1
    assert "rms_norm, axis -1, 20×10×1000 float32: dx is off by " in out
    assert "again: python -m numpy_norms check rms_norm --seed 3 --eps 1e-05\n" in out
    assert "DIFFERS" in out


@pytest.mark.parametrize("error", [ModuleNotFoundError, OSError])
def test_without_pytorch_its_column_says_so(monkeypatch, capsys, small, error):
    def missing(name):
        raise error(name)

    monkeypatch.setattr(oracles, "import_module", missing)
    status, out = table(capsys, "layer_norm", *small)
    assert status == 0
    assert "not installed  ok\n" in out
    assert "PyTorch not installed, " in out


def test_a_norm_that_this_pytorch_lacks_is_no_disagreement(monkeypatch, capsys, small):
    monkeypatch.delattr("torch.nn.functional.rms_norm")
    status, out = table(capsys, "rms_norm", *small)
    assert status == 0
    assert "no result  ok\n" in out


def random(shape, dtype, offset=0.0, scale=1.0):
    return (offset + scale * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def with_dead_rows(x):
    x[..., 0, :] = 0
    return x


ACTIVATIONS = {
    "a vector": random(1000, "f8", 5),
    "features": random((32, 48), "f4", 5, 2),
    "tokens": random((2, 7, 12), "f2", 1),
    "a map after ReLU": np.maximum(random((2, 4, 3, 2), "f2"), 0),
    "a video": random((2, 4, 2, 1, 2), "f4"),
    "one sample": random((1, 8, 6, 6), "f4"),
    "a prime number of channels": random((4, 5, 3), "f4"),
    "big-endian": random((2, 4, 3), ">f4"),
    "Fortran order": np.asfortranarray(random((2, 4, 3), "f4")),
    "pairs in float64": random((50, 40, 2), "f8", 0.5),
    "a large mean": random((2, 4, 3), "f8", 1e6),
    "tiny numbers": random((2, 4, 3), "f8", scale=1e-9),
    "huge numbers": random((2, 4, 3), "f4", scale=1e37),
    "a constant": np.full((2, 4, 3), 1234.1),
    "zeros": np.zeros((3, 4, 5), "f4"),
    "dead rows": with_dead_rows(random((2, 4, 3), "f4", 3)),
}


@pytest.mark.parametrize("x", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_of_every_kind_agree(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    status, report = check("--input", f"{tmp_path}/x.npy")
    wrong = [f for f in report["findings"] if not f["agrees"]]
    assert (status, wrong) == (0, [])
    assert {tuple(f["shape"]) for f in report["findings"] if f["route"] == "106 bits"} == {x.shape}


def test_every_float_array_of_an_archive_is_checked(tmp_path, capsys):
    file = tmp_path / "two arrays.npz"
    np.savez(file, h=random((4, 6), "f4"), ids=np.arange(4), z=random((2, 3, 5), "f8"))
    status, out = table(capsys, "instance_norm", "rms_norm", "--input", str(file))
    assert status == 0
    assert "h 4×6" in out
    assert "z 2×3×5" in out
    assert "ids" not in out
    assert "skipped instance_norm of h: it needs 3 axes, x has shape (4, 6)\n" in out


def test_names_in_an_archive_write_nothing_else_to_the_terminal(tmp_path):
    np.savez(tmp_path / "a.npz", **{"x\n\x1b[31m": random((4, 6), "f4")})
    assert list(load_activations(f"{tmp_path}/a.npz")) == [r"'x\n\x1b[31m'"]


def test_nothing_to_check_is_an_error(tmp_path, capsys):
    np.save(tmp_path / "x.npy", random(5, "f4"))
    assert main(["check", "batch_norm", "--input", f"{tmp_path}/x.npy"]) == 2
    assert "nothing to check" in capsys.readouterr().err


def write_array(array, **options):
    return lambda path: np.lib.format.write_array(path.open("wb"), np.asarray(array), **options)


def write_archive(**arrays):
    return lambda path: np.savez(path.open("wb"), **arrays)


def write_cut(path):
    write_array(np.ones((32, 48)))(path)
    path.write_bytes(path.read_bytes()[:500])


OBJECT = np.array([{}, 1], dtype=object)
BAD_FILES = {
    "missing": (lambda path: None, "No such file"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "text": (lambda path: path.write_text("1 2 3"), "is not a NumPy file; save the array with"),
    "nothing": (lambda path: path.touch(), "is not a NumPy file"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps([1.0])), "is not a NumPy file"),
    "objects": (write_array(OBJECT), "holds pickled Python objects, which are never loaded"),
    "objects in an archive": (write_archive(x=np.ones(3), o=OBJECT), "holds pickled Python obj"),
    "cut short": (write_cut, "is damaged"),
    "no archive after all": (
        lambda path: path.write_bytes(b"PK\x03\x04..."),
        "is not an .npz file",
    ),
    "integers": (write_array(np.arange(6)), "no float array: found x int64 (6,); expected"),
    "booleans": (write_array([True]), "found x bool (1,)"),
    "complex numbers": (write_array([1j]), "found x complex128 (1,)"),
    "no elements": (write_array(np.ones((0, 3))), "found x float64 (0, 3)"),
    "no axes": (write_array(1.0), "found x float64 ()"),
    "no arrays": (write_archive(), "found no array"),
    "bfloat16": (write_array(np.zeros(3, "V2")), "save x.astype(np.float32)"),
    "fields": (write_array(np.zeros(3, "f4,f4")), "with at least one axis and one element\n"),
    "too large": (write_array([[1e100, 2e100]]), "up to 2e+100, but there is nothing to compare"),
    "too small": (write_array([[1e-300, 2e-300]]), "beyond 1e-270 to 1e+90; pass x / 2e-300"),
    "NaN": (write_array([[1.0, np.nan], [np.inf, 4.0]]), "NaN or infinity at 2 of 4 indices"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("write", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, capsys, write, message):
    path = tmp_path / "x.npy"
    write(path)
    assert main(["check", "--input", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_loaded_arrays_have_the_byte_order_of_the_machine(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3, dtype=">f8"))
    (x,) = load_activations(f"{tmp_path}/x.npy").values()
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, [0, 1, 2])


@pytest.mark.parametrize("eps", ["0", "-1", "nan", "inf", "small"])
def test_eps_must_be_finite_and_positive(eps, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["check", f"--eps={eps}"])
    assert stop.value.code == 2
    assert f"'{eps}' is not a finite number above 0" in capsys.readouterr().err


def test_parameters_are_random_and_signed():
    case = article_case("layer_norm", "f4", 0)
    assert case.arrays["gamma"].min() < 0 < case.arrays["gamma"].max()
    assert np.unique(case.dy).size > 100_000
    assert abs(case.arrays["x"].mean() - 3) < 0.1


def test_a_norm_without_a_set_of_two_is_left_out():
    assert "single value" in why_not("instance_norm", (4, 3, 1))
    assert "single value" in why_not("batch_norm", (1, 3))
    assert why_not("group_norm", (4, 3)) is None


def test_json_has_no_nan(monkeypatch, small):
    spoil_backward(monkeypatch, "rms_norm", 0, lambda dx: dx * np.nan)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["check", "rms_norm", "--json", *small])
    json.loads(out.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
