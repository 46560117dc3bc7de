"""What stands on the pages is current, and a reader's plain Python runs it."""

import ast
import re
import sys
import tomllib
from math import log10
from pathlib import Path

import pytest
from extras import need

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
sys.path.append(str(DOCS))

import make_pages  # noqa: E402
import notebooks  # noqa: E402
import pictures  # noqa: E402

# Module: the extras that bring it.
EXTRAS = {
    "autograd": {"autograd"},
    "dask": {"dask"},
    "hypothesis": {"strategies"},
    "jax": {"jax"},
    "mpi4py": {"mpi"},
    "onnx": {"onnx", "models"},
    "onnxruntime": {"models"},
    "torch": {"torch"},
}
CLONE = {"docs", "benchmarks"}  # there in the root of a clone, which the page names


def text_of(page):
    return page.read_text("utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_imports_nothing_but_the_package_and_the_extras_that_it_names(page):
    imported = set()
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    if imported & CLONE:
        assert "root of a clone" in text_of(page)
    beside = imported - sys.stdlib_module_names - {"numpy", "numpy_norms"} - CLONE
    assert beside <= set(EXTRAS)
    named = set(re.findall(r"'\.\[([\w-]+)\]'", text_of(page)))
    assert [name for name in beside if not EXTRAS[name] & named] == []


@pytest.mark.parametrize("name", ["inference.md", "masks.md", "twice.md"])
def test_what_needs_no_extra_runs_without_the_blocks_that_do(name, monkeypatch):
    for module in (*EXTRAS, *sys.modules):  # as if none of them were installed
        if module.removeprefix("numpy_norms.").partition(".")[0] in EXTRAS:
            monkeypatch.setitem(sys.modules, module, None)
    for extra in EXTRAS:
        monkeypatch.setitem(sys.modules, f"numpy_norms.{extra}", None)
    found, missing = {}, 0
    for block in blocks(DOCS / name, "python"):
        try:
            exec(block, found)
        except ImportError:
            missing += 1
    assert missing
    if "folder" in found:
        found["folder"].cleanup()


def test_the_extras_that_pages_name_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set().union(*EXTRAS.values()) <= set(project["optional-dependencies"])
    named = {name for page in PAGES for name in re.findall(r"'\.\[([\w-]+)\]'", text_of(page))}
    assert named <= set(project["optional-dependencies"])


TOLD = [ROOT / "README.md", *DOCS.rglob("*.md"), *DOCS.rglob("*.py")]
TOLD += (ROOT / "numpy_norms").rglob("*.py")


def test_nothing_installs_what_is_not_released():
    for path in TOLD:
        installed = re.findall(r"pip install (?:-\S+ )*'?([^\s'-]+)", text_of(path))
        assert (path, [name for name in installed if name.startswith("numpy_norms")]) == (path, [])


def alike(mine, theirs):
    """Whether two texts have the same words and nearly the same numbers."""
    if pictures.NUMBER.sub("#", mine).split() != pictures.NUMBER.sub("#", theirs).split():
        return False
    pairs = zip(pictures.NUMBER.findall(mine), pictures.NUMBER.findall(theirs), strict=True)
    return all(near(a, b) for a, b in pairs)


def near(a, b):
    if "e-" in a + b:  # an error: of the size of the last digits, which depend on the machine
        return abs(log10(abs(float(a)) + 1e-16) - log10(abs(float(b)) + 1e-16)) <= 1
    return abs(float(a) - float(b)) <= 0.06


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "<!-- begin table" in text_of(p)], ids=lambda page: page.name
)
def test_the_tables_are_those_of_the_package(page):
    assert make_pages.TABLE.search(text_of(page))
    tables = make_pages.TABLE.finditer(text_of(page))
    assert all(make_pages.renewed(found[0]) == found[0] for found in tables)


CONSOLES = [(page, found) for page in PAGES for found in make_pages.CONSOLE.finditer(text_of(page))]


@pytest.mark.parametrize(("page", "found"), CONSOLES, ids=[f"{p.name}-{f[1]}" for p, f in CONSOLES])
@pytest.mark.usefixtures("_in_this_process")
def test_what_a_command_prints_is_what_it_prints(page, found):
    line = r"─+"
    assert alike(re.sub(line, "─", found[2]), re.sub(line, "─", make_pages.printed(found[1])))


def test_all_pictures_of_a_page_are_drawn_when_it_is_made():
    page = DOCS / "affine-and-cache.md"
    assert {name for name, _ in pictures.drawn(text_of(page))} == set(names_on(page))


def test_every_picture_is_shown_and_described():
    both = {name for page in [*PAGES, ROOT / "README.md"] for name in names_on(page)}
    assert both == set(pictures.PICTURES)
    files = {path.stem.rpartition("-")[0] for path in pictures.FOLDER.glob("*.svg")}
    assert files == set(pictures.PICTURES)
    for page in PAGES:
        assert 'alt=""' not in text_of(page)


def names_on(page):
    return pictures.SHOWN.findall(text_of(page)) + pictures.NARROW.findall(text_of(page))


NOTEBOOKS = notebooks.pages()


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.name)
def test_a_notebook_has_the_python_of_its_page_and_needs_nothing_beside_it(page):
    made = notebooks.notebook(page)
    code = [cell["source"] for cell in made["cells"] if cell["cell_type"] == "code"]
    assert code == [block.rstrip("\n") for block in blocks(page, "python")]
    prose = "\n".join(c["source"] for c in made["cells"] if c["cell_type"] == "markdown")
    assert "<picture>" not in prose
    assert ".md" not in re.sub(r"`[^`]*`", "", prose)
    assert prose.count("<img ") == len(pictures.shown(text_of(page)))


def test_a_notebook_is_valid_and_runs(tmp_path):
    need("myst_nb", "ipykernel")
    import nbformat
    from nbclient import NotebookClient
    from pages import KernelManager

    notebooks.write(tmp_path)
    written = {path.stem: nbformat.read(path, 4) for path in tmp_path.glob("*.ipynb")}
    for made in written.values():
        nbformat.validate(made)
    made = written["batch-norm-by-hand"]
    NotebookClient(made, kernel_manager_class=KernelManager, timeout=60).execute(cwd=tmp_path)
    outputs = [cell.outputs for cell in made.cells if cell.cell_type == "code"]
    assert "0.176" in outputs[2][0]["data"]["text/plain"]


def test_a_number_that_has_moved_is_not_alike():
    assert alike("dx 0.176 4e-16 ok", "dx 0.176 2e-16 ok")
    assert not alike("dx 0.176", "dx 0.376")
    assert not alike("error 4e-16", "error 4e-10")
    assert not alike("right", "wrong")
    path = "M3.80 15.41H10.65V22.26H3.80z"
    assert pictures.alike(path, path.replace("22.26", "22.27"))
    assert not pictures.alike(path, path.replace("22.26", "62.26"))
    assert not pictures.alike(path, path.replace("H", "V"))
    clipped = f'<path d="{path}" clip-path="url(#p3363076e-p869e72bdfc)"'
    assert pictures.alike(clipped, clipped.replace("869e", "2ae6"))
    assert not pictures.alike(clipped, clipped.replace("3363", "3364"))
