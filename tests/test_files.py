"""Files that somebody else wrote: a wrong one is a ValueError that names it, and costs nothing."""

import os
import random
import re
import struct
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from each import each
from numpy.testing import assert_array_equal
from safetensors.numpy import save_file

from numpy_norms.cli import UsageError, main
from numpy_norms.commands.check.activations import load_activations
from numpy_norms.conventions import read_state
from numpy_norms.files import read_bytes, read_npy, read_npz

try:
    import resource
except ImportError:  # Windows
    resource = None

posix = pytest.mark.skipif(os.name != "posix", reason="pipes, links and permissions")
ARRAYS = {
    "a.weight": np.arange(6, dtype="<f4").reshape(2, 3),
    "a.bias": np.asfortranarray(np.arange(12, dtype=">f8").reshape(3, 4)),
    "half": np.ones((2, 0, 3), np.float16),
    "one": np.float64(3),
    "text": np.array(["ab", "c"]),
    "long": np.arange(2000, dtype=np.float32),
}


def save_npz(path):
    np.savez(path, **ARRAYS)


def save_packed(path):
    np.savez_compressed(path, **ARRAYS)


def save_npy(path):
    np.save(path, ARRAYS["long"])


def save_tensors(path):
    save_file({name: ARRAYS[name] for name in ("a.weight", "half", "long")}, path)


@pytest.mark.parametrize("save", [save_npz, save_packed])
def test_arrays_come_back_as_they_were(tmp_path, save):
    save(tmp_path / "a.npz")
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert_array_equal(found[name], array, strict=True)
        assert found[name].flags.writeable
        assert found[name].flags.f_contiguous == np.asarray(array).flags.f_contiguous


def damaged(good, trial):
    """Return the bytes with something wrong: flipped, cut, doubled or replaced."""
    rng = random.Random(trial)
    bad = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(bad) or 1)
        kind = rng.randrange(8)
        if kind < 3:
            bad[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 3:
            bad[at : at + 1] = bytes([bad[at] ^ 1 << rng.randrange(8)]) if bad else b""
        elif kind == 4:
            bad[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\0\0\0\x80", b"9999"))
        elif kind == 5:
            del bad[at:]
        elif kind == 6:
            del bad[at : at + rng.randrange(1, 20)]
        else:
            bad[at:at] = bad[at : at + rng.randrange(1, 60)]
    if trial % 2:  # near the ends, where archives and headers say how large they are
        at = rng.randrange(min(120, len(bad) or 1))
        place = at if trial % 4 == 1 else max(len(bad) - 1 - at, 0)
        bad[place : place + 1] = bytes([rng.randrange(256)])
    return bytes(bad)


def most_memory():
    """Return the most bytes that this process has had; 0 where that is not known."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if resource else 0


READERS = {
    "npz": (save_npz, "x.npz", read_state),
    "packed npz": (save_packed, "x.npz", read_state),
    "safetensors": (save_tensors, "x.safetensors", read_state),
    "activations npz": (save_packed, "x.npz", load_activations),
    "activations npy": (save_npy, "x.npy", load_activations),
}


@pytest.fixture
def quick(tmp_path):
    """A folder in memory, where the system has one."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@each(("save", "name", "read"), READERS.values())
def test_a_damaged_file_is_named_or_read(quick, save, name, read):
    path = quick / name
    save(path)
    good = path.read_bytes()
    said = []
    before = most_memory()
    for trial in range(600):
        path.write_bytes(damaged(good, trial))
        try:
            read(str(path))
        except (ValueError, UsageError) as error:
            said.append(str(error))
    assert len(said) > 200
    assert all(name in line and len(line.splitlines()) == 1 for line in said)
    assert most_memory() - before < 100 << 20


def rewritten(path, start, fields):
    """Write 32-bit numbers over a zip file, each behind the last place where `start` is."""
    content = bytearray(path.read_bytes())
    at = content.rindex(start)
    for offset, number in fields:
        struct.pack_into("<I", content, at + offset, number)
    path.write_bytes(content)


def bomb(path):
    header = {"descr": "<f8", "fortran_order": False, "shape": (257 << 17,)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(257):
            file.write(bytes(1 << 20))


def claim(shape):
    """Return the writer of a small file that says it has an array of this shape."""

    def write(path):
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(80))

    return write


def claim_in_archive(path):
    member = path.with_name("member")
    claim((1 << 40,))(member)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(member, "a.npy")


def claim_by_directory(path):
    save_npz(path)
    rewritten(path, b"PK\x01\x02", [(20, 0xFFFFFFF0), (24, 0xFFFFFFF0)])


def claim_packed(path):
    save_packed(path)
    rewritten(path, b"PK\x01\x02", [(24, 200 << 20)])


def encrypted(path):
    save_npz(path)
    rewritten(path, b"PK\x01\x02", [(8, 1)])


def unknown(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", b"")


def twice(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"")
        archive.writestr("b.npy", b"")
    path.write_bytes(path.read_bytes().replace(b"b.npy", b"a.npy"))


COSTLY = {
    "bomb": (bomb, "npz", "would take 269484160 bytes of memory"),
    "claim": (claim((1 << 40,)), "npy", "an array of 8796093022208 bytes is said to be in 80"),
    "claim of axes": (claim((1 << 40, 1 << 40)), "npy", "bytes is said to be in 80"),
    "negative": (claim((-1, -10)), "npy", "an array of shape"),
    "claim in an archive": (claim_in_archive, "npz", "bytes is said to be in 80"),
    "claim by directory": (claim_by_directory, "npz", "the size of 'long.npy' cannot be 42949"),
    "claim of much packed": (claim_packed, "npz", "the size of 'long.npy' cannot be 209715200"),
    "encrypted": (encrypted, "npz", "has the encrypted member"),
    "unknown compression": (unknown, "npz", "compressed by method 14"),
    "twice": (twice, "npz", "has 'a.npy' twice"),
}


@pytest.mark.parametrize(("write", "kind", "says"), COSTLY.values(), ids=COSTLY)
def test_sizes_are_checked_before_memory_is_taken(tmp_path, capsys, write, kind, says):
    path = tmp_path / f"x.{kind}"
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"x.{kind} .*{re.escape(says)}") as error:
            read_npy(path) if kind == "npy" else read_state(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert main(["check", "--input", str(path)]) == 2
    assert str(error.value) in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes")
def test_a_file_of_holes_is_no_memory(tmp_path):
    path = tmp_path / "holes.npy"
    claim((1 << 39,))(path)
    os.truncate(path, (1 << 42) + 128)
    with pytest.raises(ValueError, match=r"holes.npy has an array of \d+ bytes, more than the mem"):
        read_npy(path)


def test_what_is_packed_well_is_read_and_the_cure_for_more_works(tmp_path):
    zeros = np.zeros(8 << 20, np.int8)
    np.savez_compressed(tmp_path / "a.npz", zeros=zeros)
    assert not read_npz(tmp_path / "a.npz")["zeros"].any()
    np.savez(tmp_path / "b.npz", zeros=zeros)
    assert not read_npz(tmp_path / "b.npz")["zeros"].any()


ODD = {
    "pipe": (os.mkfifo if hasattr(os, "mkfifo") else None, ValueError, "pipe or a device"),
    "folder": (os.mkdir, OSError, "folder"),
    "device": (lambda path: os.symlink("/dev/zero", path), ValueError, "pipe or a device"),
    "link to nothing": (lambda path: os.symlink("nowhere", path), OSError, "link to nothing"),
    "link to itself": (lambda path: os.symlink(path, path), OSError, "link to itself"),
    "nothing": (lambda path: None, OSError, "nothing"),
}
READ = {
    "npz": read_state,
    "safetensors": read_state,
    "npy": load_activations,
}


@posix
@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize(("make", "error", "says"), ODD.values(), ids=ODD)
def test_what_is_no_file_is_told_at_once(tmp_path, make, error, says, kind):
    path = f"{tmp_path}/{next(n for n, row in ODD.items() if row[0] is make)}.{kind}"
    make(path)
    start = time.monotonic()
    with pytest.raises(UsageError if kind == "npy" else error, match=path) as raised:
        READ[kind](path)
    assert says in str(raised.value)
    assert time.monotonic() - start < 1


@pytest.fixture
def nobody():
    """Be somebody whom permissions hold."""
    root = os.name == "posix" and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@posix
@pytest.mark.parametrize("kind", READ)
def test_a_file_without_permission_is_an_os_error(tmp_path, request, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"PK")
    path.chmod(0)
    request.getfixturevalue("nobody")
    error = UsageError if kind == "npy" else PermissionError
    with pytest.raises(error, match=rf"a\.{kind}") as raised:
        READ[kind](str(path))
    assert "Permission denied" in str(raised.value)


def test_a_name_that_is_none_is_told():
    with pytest.raises(ValueError, match="is no name of a file"):
        read_state("a\0.npz")


def test_a_link_is_followed_where_that_is_said(tmp_path):
    save_npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").symlink_to("a.npz")
    assert read_npz(tmp_path / "b.npz").keys() == ARRAYS.keys()
    with pytest.raises(ValueError, match=r"b\.npz is a symbolic link"):
        read_npz(tmp_path / "b.npz", follow=False)


def test_a_file_that_is_too_large_is_told(tmp_path):
    (tmp_path / "a.json").write_bytes(bytes(11))
    assert read_bytes(tmp_path / "a.json", 11) == bytes(11)
    with pytest.raises(ValueError, match=r"a\.json holds 11 bytes; at most 10 were expected"):
        read_bytes(tmp_path / "a.json", 10)
