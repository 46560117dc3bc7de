"""The command line: exit statuses, one line for a user's error, tables for every terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import numpy_norms
from numpy_norms import cli
from numpy_norms.cli import UsageError, main
from numpy_norms.commands.table import paint, print_table, print_text

ROOT = Path(__file__).parents[1]
HEADER, ROWS = ["norm", "dx", ""], [["layer_norm", "2e-16", "ok"], ["rms_norm", "3", "DIFFERS"]]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def command(monkeypatch, run):
    """Make `probe` the only command that can be imported; `absent` is named but missing."""
    module = SimpleNamespace(HELP="probe", add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "numpy_norms.commands.probe", module)
    monkeypatch.setattr(cli, "COMMANDS", {"probe": "probe", "absent": "absent"})


@pytest.mark.parametrize("status", [0, 1])
def test_the_exit_status_is_that_of_the_command(monkeypatch, status):
    command(monkeypatch, lambda args: status)
    assert main(["probe"]) == status


def test_a_usage_error_is_one_line_on_stderr_and_exit_status_2(monkeypatch, capsys):
    def run(args):
        raise UsageError("x.npy is not a NumPy file")

    command(monkeypatch, run)
    assert main(["probe"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "python -m numpy_norms probe: error: x.npy is not a NumPy file\n"


def test_an_interrupt_is_no_traceback(monkeypatch):
    def run(args):
        raise KeyboardInterrupt

    command(monkeypatch, run)
    assert main(["probe"]) == 130


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["compare"],
        ["check", "--sed", "x"],
        ["check", "--seed", "-1"],
        ["check", "--input", ""],  # "$FILE" where that is not set
        ["sweep", "layer_norm", "--png="],
        ["golden", "export", ""],
    ],
)
def test_wrong_words_exit_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_without_a_command_they_are_listed(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert f"pass one of {', '.join(cli.COMMANDS)}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "gamma"),
    [
        (["layer_norm", "--axis", "-2,-1"], "(3, 4)"),
        (["layer_norm", "--axis", "-1"], "(4,)"),
        (["rms_norm", "--axis", "1,2", "--feature-axis", "-1"], "(4,)"),
        (["batch_norm", "--channel-axis", "-1,-2"], "(3, 4)"),
    ],
)
def test_a_list_of_axes_may_begin_with_a_negative_one(words, gamma, capsys):
    assert main(["show", "--shape", "2,3,4", *words]) == cli.OK
    assert f"gamma shape {gamma}" in capsys.readouterr().out


def test_a_negative_number_is_refused_by_what_is_wrong_with_it(capsys):
    assert main(["trace", "layer_norm", "--eps", "-1e-5"]) == cli.USAGE
    assert "--eps is -1e-05, but a finite number >= 0" in capsys.readouterr().err
    assert main(["show", "layer_norm", "--shape", "-1,3"]) == cli.USAGE
    assert "--shape -1,3 has no element" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--shpe", "2,3"], ["layer_norm"], ["-x"]])
def test_an_unknown_word_is_told_with_the_usage_of_its_command(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["show", "layer_norm", *words])
    assert caught.value.code == cli.USAGE
    err = capsys.readouterr().err
    assert "[--shape N,C,...]" in err
    assert f"show: error: unrecognized arguments: {' '.join(words)}" in err


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("batch_norm --shape 2 6", "--shape 2,6"),
        ("batch_norm --shape=2 6 4", "--shape 2,6,4"),
        ("layer_norm --axis -2 -1", "--axis -2,-1"),
        ("layer_norm --shape 2,3,4 --feature-axis 0 -1", "--feature-axis 0,-1"),
        ("batch_norm --channel-axis 0 1 --shape 2,6", "--channel-axis 0,1"),
    ],
)
def test_a_list_in_several_words_is_cured_by_commas(words, cure, capsys):
    with pytest.raises(SystemExit):
        main(["show", *words.split()])
    assert capsys.readouterr().err.endswith(f"; write {cure}\n")
    assert main(["show", words.split()[0], *cure.split()]) == cli.OK
    with pytest.raises(SystemExit):
        main(["show", "--shape", "2", "6", "batch_norm"])
    assert "write a list of numbers as one word" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["show", "group_norm", "--groups", "2", "3"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: 3\n")


def test_the_overview_names_every_command_with_its_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    overview = capsys.readouterr().out
    assert all(f"\n    {name} " in overview for name in cli.COMMANDS)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"{numpy_norms.__version__}\n"


COMMANDS = [
    *([name, "--help"] for name in cli.COMMANDS),
    ["--help"],
    ["check", "rms_norm", "--input", "{folder}/x.npy"],
    ["check", "--input", "{folder}/none.npy"],
    ["info", "--json"],
    ["show", "layer_norm"],
    ["trace", "layer_norm"],
    ["golden", "verify", "{folder}"],
    ["grade", "{folder}/f.py:forward", "--norm", "rms_norm"],
    ["nothing"],
]
posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(3, 4)))
    (folder / "f.py").write_text("def forward(x, gamma, eps):\n    print(x)")
    return folder


def run(words, folder, stdout, monkeypatch):
    """Run a command here, which leaves nothing in `stdout` whose writing fails at the exit."""
    with monkeypatch.context() as patch, stdout:
        patch.setattr(sys, "stdout", stdout)
        try:
            return main([word.format(folder=folder) for word in words])
        except SystemExit as stop:
            return stop.code


def program(*words, stdout):
    words = [sys.executable, "-m", "numpy_norms", *words]
    done = subprocess.run(words, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.fixture
def left():
    """A pipe whose reader left."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


@posix
@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_reader_that_leaves_is_no_error(folder, left, words, monkeypatch, capsys):
    status = run(words, folder, left, monkeypatch)
    assert status in ((2,) if "error: " in capsys.readouterr().err else (0, 141))


@posix
def test_a_reader_that_leaves_is_no_traceback(left):
    with left:
        assert program("info", stdout=left).returncode == 141


@pytest.fixture
def full():
    """A disk with no space left."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    return open("/dev/full", "w")


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_line(folder, full, words, monkeypatch, capsys):
    status = run(words, folder, full, monkeypatch)
    if "--help" in words and status == 0:
        return  # argparse says nothing of what it cannot print
    assert status == 2
    assert capsys.readouterr().err.count("error: ") == 1


def test_a_full_disk_is_no_traceback(full):
    with full:
        done = program("info", stdout=full)
    assert (done.returncode, done.stderr.count("error: ")) == (2, 1)


@posix
def test_a_reader_of_both_streams_that_leaves_ends_it(folder):
    for command, statuses in (("info", {141}), ("check none", {2, 141}), ("show --help", {0, 141})):
        script = f"exec 2>&1; {sys.executable} -m numpy_norms {command}; echo $? >{folder}/status"
        subprocess.run(["bash", "-c", f"( {script} ) | true"], cwd=ROOT)
        assert int((folder / "status").read_text()) in statuses


@posix
def test_streams_that_are_closed_are_no_traceback():
    for command, status in (("info", 0), ("check none", 2), ("--help", 0)):
        script = f"exec >&- 2>&-; {sys.executable} -m numpy_norms {command}"
        assert subprocess.run(["sh", "-c", script], cwd=ROOT).returncode == status


def test_the_module_runs_as_a_program():
    words = [sys.executable, "-m", "numpy_norms", "check", "no_norm"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'no_norm' is none of batch_norm, " in done.stderr


def printed(stream, **options):
    print_table(HEADER, ROWS, file=stream, **options)
    return stream.getvalue().splitlines()


def test_a_table_in_a_pipe_is_plain_and_aligned():
    assert printed(io.StringIO(), align="lrl") == [
        "norm           dx",
        "──────────────────────────",
        "layer_norm  2e-16  ok",
        "rms_norm        3  DIFFERS",
    ]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_table_is_no_wider_than_columns(monkeypatch, stream):
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setenv("NO_COLOR", "1")
    file = stream()
    rows = [["layer_norm", "2e-16, and a long word on what it means", "ok"]]
    print_table(HEADER, rows, file=file)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 24
    assert lines[0] == "norm  layer_norm"
    assert " ".join(line[6:] for line in lines[1:-1]) == rows[0][1]


def test_verdicts_are_coloured_on_a_terminal():
    lines = printed(Terminal(), align="lrl")
    assert lines[2].endswith("\x1b[32mok\x1b[0m")
    assert lines[3].endswith("\x1b[31mDIFFERS\x1b[0m")


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_it_is_not_wanted(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert paint("ok", "green", Terminal()) == "ok"


def test_colour_in_a_pipe_where_it_is_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert paint("ok", "green", io.StringIO()) == "\x1b[32mok\x1b[0m"


def test_no_colour_wins_over_forced_colour(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("ok", "green", io.StringIO()) == "ok"


def test_colour_does_not_count_as_width():
    stream = io.StringIO()
    print_table(["a", "b"], [["\x1b[31mred\x1b[0m", "1"], ["blue", "2"]], file=stream)
    assert stream.getvalue().splitlines()[2:] == ["\x1b[31mred\x1b[0m   1", "blue  2"]


def test_a_stream_that_is_not_utf8_gets_ascii():
    stream = Terminal("latin-1")
    print_text("20×10 → ulp ≤ ½", stream)
    assert stream.getvalue() == "20x10 -> ulp <= ?\n"


def test_a_narrow_terminal_gets_one_record_per_row(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = printed(Terminal(), align="lrl")
    assert lines[:4] == ["norm  layer_norm", "dx    2e-16", "      ok", ""]
    assert max(map(len, lines)) <= 20


def test_a_pipe_gets_the_table(monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert len(printed(io.StringIO())) == 4
