"""The golden vectors: rounded as IEEE 754 says, the same bytes every time, described in full."""

import json
import shutil
import subprocess
import zipfile
from fractions import Fraction
from hashlib import sha256

import ml_dtypes
import mpmath
import numpy as np
import pytest
from extras import need
from golden_vectors import arrays, groups, vectors

import numpy_norms.golden.export as writing
from numpy_norms.golden.cases import CASES_VERSION, cases
from numpy_norms.golden.exact import PRECISION, round_to
from numpy_norms.golden.files import MANIFEST
from numpy_norms.golden.flags import FLAGS
from numpy_norms.golden.formats import FORMATS, decode, encode
from numpy_norms.golden.schema import SCHEMA

DIGEST = "bcbf1c67abc3c6f2632d6b756472fff912e3748ff4f009dceca7da52cbab1799"
NUMBERS = np.random.default_rng(0)


def doubles(smallest, largest):
    """Return numbers of both signs whose exponents spread over the whole range."""
    return NUMBERS.uniform(-2, 2, 2000) * 2.0 ** NUMBERS.integers(smallest, largest, 2000)


def as_mpf(values):
    return [mpmath.mpf(float(value)) for value in values]


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_a_number_is_rounded_as_numpy_casts_it(name):
    form = FORMATS[name]
    values = doubles(form.least - 3, form.greatest + 1)
    with np.errstate(over="ignore"):
        expected = values.astype(name)
    np.testing.assert_array_equal(round_to(as_mpf(values), form), expected)


def test_a_float32_number_is_rounded_to_bfloat16_as_ml_dtypes_casts_it():
    values = doubles(-148, 127).astype(np.float32)
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float64)
    np.testing.assert_array_equal(round_to(as_mpf(values), FORMATS["bfloat16"]), expected)


@pytest.mark.parametrize("scale", [1, 2**1030, 2**-900])
def test_a_fraction_is_rounded_to_float64_as_python_divides(scale):
    pairs = NUMBERS.integers(1, 2**62, (500, 2)).tolist()
    fractions = [Fraction(p, q) * Fraction(scale) / Fraction(2**100) for p, q in pairs]
    with mpmath.workprec(PRECISION):
        numbers = [mpmath.mpf(f.numerator) / f.denominator for f in fractions]
    expected = [f.numerator / f.denominator for f in fractions]
    np.testing.assert_array_equal(round_to(numbers, FORMATS["float64"]), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_ties_go_to_the_even_neighbour_and_beyond_the_largest_lies_infinity(name):
    form = FORMATS[name]
    one, step = mpmath.mpf(1), mpmath.mpf(2) ** (1 - form.digits)
    largest = mpmath.mpf(2) ** form.greatest * (1 - step / 2)
    half = largest * step / 4  # half of the last unit of the largest number, or a little less
    with mpmath.workprec(PRECISION):
        numbers = [one + step / 2, one + step * 3 / 2, largest + half / 2, largest + 2 * half]
        expected = [1.0, float(1 + 2 * step), float(largest), np.inf]
    np.testing.assert_array_equal(round_to(numbers, form), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_stored_comes_back(name):
    form = FORMATS[name]
    values = np.append(round_to(as_mpf(doubles(form.least, form.greatest - 1)), form), np.nan)
    np.testing.assert_array_equal(decode(encode(values, form), form), values)


def test_at_twice_the_precision_every_byte_is_the_same(tmp_path, monkeypatch):
    files = [file for file in groups() if "float64" in file]
    widest = [case for case in cases() if case.form.name == "float64"]
    monkeypatch.setattr(writing, "cases", lambda: iter(widest))
    writing.export(tmp_path, precision=2 * PRECISION)
    for file in files:
        assert (tmp_path / file).read_bytes() == (vectors() / file).read_bytes(), file


def test_the_inputs_and_results_of_a_version_never_change():
    digest = sha256()
    for file in groups():
        for name, values in sorted(arrays(file).items()):
            if not name.endswith(".tolerance"):
                digest.update(f"{file}/{name}".encode() + values.tobytes())
    assert (CASES_VERSION, digest.hexdigest()) == ("1.0.0", DIGEST)


def test_the_contents_follow_their_schema():
    need("jsonschema")
    import jsonschema

    contents = json.loads((vectors() / "cases.json").read_text())
    schema = json.loads((vectors() / "cases.schema.json").read_text())
    assert schema == SCHEMA
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(contents, schema)


def test_every_array_of_a_case_is_there_and_no_other():
    for file, group in groups().items():
        expected = {f"{case['name']}/{name}" for case in group["cases"] for name in case["inputs"]}
        for case in group["cases"]:
            for name in case["outputs"]:
                path = f"{case['name']}/{name}"
                expected |= {path, f"{path}.float64", f"{path}.tolerance"}
        assert set(arrays(file)) == expected


def test_every_flag_is_described_and_used():
    used = {flag for case in cases() for flag in case.flags}
    assert used == set(FLAGS)


def test_a_kernel_that_takes_eps_as_float32_sees_the_same_number():
    assert all(float(np.float32(case.eps)) == case.eps for case in cases())


def test_no_two_axes_of_an_ordinary_case_have_the_same_length():
    ordinary = [case for case in cases() if case.name == "ordinary"]
    assert len(ordinary) == 24
    assert all(len(set(case.shape)) == len(case.shape) for case in ordinary)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not there")
def test_the_manifest_is_what_sha256sum_checks():
    command = ["sha256sum", "--check", "--strict", "--quiet", MANIFEST]
    assert subprocess.run(command, cwd=vectors(), check=False).returncode == 0


def test_an_archive_is_stored_sorted_and_without_a_date():
    for file in groups():
        with zipfile.ZipFile(vectors() / file) as archive:
            members = archive.infolist()
        names = [member.filename.removesuffix(".npy") for member in members]
        assert names == sorted(names)
        assert {m.date_time for m in members} == {(1980, 1, 1, 0, 0, 0)}
        assert {m.compress_type for m in members} == {zipfile.ZIP_STORED}


def test_an_exact_case_has_results_of_its_own_format_and_no_tolerance():
    for file, group in groups().items():
        form = FORMATS[group["dtype"]]
        for case in (case for case in group["cases"] if case["exact"]):
            for name in case["outputs"]:
                path = f"{case['name']}/{name}"
                target, wide = decode(arrays(file)[path], form), arrays(file)[f"{path}.float64"]
                np.testing.assert_array_equal(target, wide)
                assert not arrays(file)[f"{path}.tolerance"].any()


def test_every_other_tolerance_is_positive_where_a_number_is_expected():
    for file, group in groups().items():
        for case in (case for case in group["cases"] if not case["exact"]):
            for name in case["outputs"]:
                expected = arrays(file)[f"{case['name']}/{name}.float64"]
                tolerance = arrays(file)[f"{case['name']}/{name}.tolerance"]
                assert np.all((tolerance > 0) & np.isfinite(tolerance) | np.isnan(expected))
