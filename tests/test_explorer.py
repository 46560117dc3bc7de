"""The explorer: its arithmetic in Node, and the page in a browser, driven as a reader would."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from extras import need

from numpy_norms.commands import trace_steps

ROOT = Path(__file__).parents[1]
EXPLORER = ROOT / "docs" / "explorer"
PAGE = ROOT / "numpy_norms" / "explorer.html"
sys.path.append(str(ROOT / "docs"))

from drawing import BLUE, RED  # noqa: E402

NODE = shutil.which("node")
BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser"])), None)
DRIVER = shutil.which("chromedriver")
FAMILIES = ["batch_norm", "layer_norm", "instance_norm", "group_norm", "rms_norm"]
NORMS = [*FAMILIES, "batch_norm_inference"]

needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver"
)


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_its_arithmetic_is_that_of_the_library(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXPLORER)
    from write_vectors import vectors

    (tmp_path / "golden.json").write_text(json.dumps(vectors()), "utf-8")
    done = subprocess.run(
        [NODE, "--test", EXPLORER / "parity.test.mjs"],
        env=os.environ | {"GOLDEN": str(tmp_path / "golden.json")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_in_the_package_is_made_of_its_sources(monkeypatch):
    monkeypatch.syspath_prepend(EXPLORER)
    from bundle import explorer_page

    assert PAGE.read_text("utf-8") == explorer_page()


class Page:
    """The explorer in a browser."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def load(self, state):
        self.resize(1280)
        self.browser.get("about:blank")
        self.browser.get(f"{self.address}#{state}")
        return self

    def open(self, state):
        """Go there as by a link within the page, which costs less than to load it."""
        if not self.browser.current_url.startswith(self.address):
            return self.load(state)
        self.resize(1280)
        self.js("location.hash = arguments[0]", state)
        return self

    def resize(self, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", **size)

    def cdp(self, command, **parameters):
        return self.browser.execute_cdp_cmd(command, parameters)

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def click(self, selector):
        element = self.find(selector)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def values(self, array):
        cells = f"[...document.querySelectorAll('[data-array={array}] [data-i]')]"
        return np.array(self.js(f"return {cells}.map((cell) => Number(cell.dataset.value))"))

    def sets(self):
        cells = "[...document.querySelectorAll('#sets [data-i]')]"
        return self.js(f"return {cells}.map((cell) => cell.textContent)")

    def cell(self, array, i):
        return f"[data-array={array}] [data-i='{i}']"

    def verdict(self):
        return self.find("#verdict").get_attribute("class")


@pytest.fixture(scope="module")
def browser():
    need("selenium")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


@pytest.fixture(scope="module")
def address():
    """The page as a file, as it lies in a clone."""
    return PAGE.as_uri()


@pytest.fixture
def page(browser, address):
    yield Page(browser, address)
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert said == [], "the console is not empty"


def assert_the_program_agrees(page):
    names = {}
    exec(page.text("#call"), names)
    for array in ("y", "dx"):
        shown, computed = page.values(array), names[array].ravel()
        np.testing.assert_allclose(shown, computed, rtol=1e-12, atol=1e-12)


@needs_browser
def test_the_sources_opened_as_a_file_lead_to_the_page(page):
    page.browser.get(f"{(EXPLORER / 'index.html').as_uri()}#norm=rms_norm")
    assert page.browser.current_url.startswith(f"{PAGE.as_uri()}#norm=rms_norm")
    assert page.verdict() == "agrees"
    page.browser.get_log("browser")  # what it says of the modules is why there is a bundle


@needs_browser
def test_a_norm_is_chosen_and_its_numbers_are_those_of_its_program(page):
    page.open("norm=rms_norm&seed=3&dy=random")
    for family in FAMILIES:
        page.click(f"input[value={family}]")
        assert page.browser.current_url.partition("#")[2].startswith(f"norm={family}&")
        assert page.verdict() == "agrees"
        assert_the_program_agrees(page)


@needs_browser
@pytest.mark.parametrize(
    "state",
    [
        "norm=layer_norm&shape=2.3.8&axes=2&gamma=none&dy=random",
        "norm=layer_norm&shape=2.6.2.2&axes=1.3&beta=none&eps=0.1&dy=random",
        "norm=rms_norm&shape=5.4&axes=1&x=ramp&shift=5&dy=random",
        "norm=instance_norm&x=constant&dy=ones&scale=3",
        "norm=group_norm&num_groups=2&gamma=none&beta=none&hot=11",
        "norm=batch_norm_inference&x=outlier&eps=0.001&dy=random",
    ],
)
def test_the_program_agrees_with_the_page_in_every_option(page, state):
    assert_the_program_agrees(page.open(state))


@needs_browser
def test_it_begins_with_the_board(page):
    page.load("")
    assert page.find("input[value=layer_norm]").is_selected()
    assert page.find("[name=x]").get_attribute("value") == "board"
    assert_the_page_is_on_the_board(page, "layer_norm")


@needs_browser
@pytest.mark.parametrize("norm", NORMS)
def test_the_board_is_that_of_trace_in_every_norm_and_fits_on_a_phone(page, norm):
    page.open(f"norm={norm}&dy=random")
    page.find("[name=x] option[value=board]").click()
    assert_the_page_is_on_the_board(page, norm)
    assert_the_program_agrees(page)
    page.resize(390)
    assert_y_the_switches_and_dx_are_seen_together(page)


def assert_the_page_is_on_the_board(page, norm):
    e = trace_steps.example(norm)
    v = trace_steps.forward(e)
    d = trace_steps.backward(e, v)
    shown = {"x": e.x, "x_hat": v["x_hat"], "y": v["y"], "dy": e.dy, "dx": d["x"]}
    for array, expected in shown.items():
        np.testing.assert_allclose(page.values(array), expected.ravel(), rtol=1e-12, atol=1e-14)


@needs_browser
def test_a_norm_of_features_brings_tokens_and_one_of_channels_images(page):
    page.open("norm=batch_norm&shape=4.2")
    page.click("input[value=layer_norm]")
    assert page.text("#summary").endswith("over D. 6 sets of m = 8; gamma has shape (8,).")
    page.click("input[name=over][value=sample]")
    assert page.text("#summary").endswith(
        "over C, H, W. 2 sets of m = 24; gamma has shape (6, 2, 2)."
    )
    page.click("input[name=over][value=features]")
    assert "gamma has shape (8,)" in page.text("#summary")
    page.click("input[value=instance_norm]")
    assert "12 sets of m = 4" in page.text("#summary")


@needs_browser
def test_a_size_that_does_not_fit_is_said(page):
    page.open("norm=batch_norm")
    assert page.text("#limits") == "at most 4 × 8 × 4 × 4"
    asks = "const c = document.querySelector('[name=size0]'); c.value = arguments[0];"
    asks += "c.dispatchEvent(new Event('change', {bubbles: true}))"
    page.js(asks, 50)
    assert page.text("#sizes-note") == "50 does not fit: 4 is shown."
    page.js(asks, 3)
    assert page.text("#sizes-note") == ""


def assert_y_the_switches_and_dx_are_seen_together(page):
    place = "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return "
    top = page.js(place + "r.top", "[data-array=y] .cards")
    bottom = page.js(place + "r.bottom", "[data-array=dx] .cards")
    assert top < page.js(place + "r.top", "#terms") < bottom
    assert bottom - top <= 740  # a phone of 844 points, less what the browser takes


def test_its_colours_are_those_of_the_figures():
    style = (EXPLORER / "explorer.css").read_text("utf-8")
    for name, colour in (("positive", BLUE), ("negative", RED)):
        shown = re.search(rf"--{name}: light-dark\(#(\w+),", style)[1]
        for ours, theirs in zip(bytes.fromhex(shown), bytes.fromhex(colour[1:]), strict=True):
            assert abs(ours - (0.878 * theirs + 0.122 * 255)) <= 1  # as the figures, on white


@needs_browser
@pytest.mark.parametrize("norm", NORMS)
def test_the_gradient_of_one_clicked_output_stays_in_its_set(page, norm):
    page.open(f"norm={norm}&dy=random")
    page.click(page.cell("y", 9))
    assert page.values("dy").tolist() == [float(i == 9) for i in range(48)]
    sets = page.sets()
    mine = [i == 9 if norm == "batch_norm_inference" else sets[i] == sets[9] for i in range(48)]
    assert (page.values("dx") != 0).tolist() == mine
    assert page.browser.current_url.endswith(f"norm={norm}&cell=9&hot=9")


@needs_browser
def test_a_term_switched_off_disagrees_with_finite_differences(page):
    page.open("norm=layer_norm&shape=2.3.8&axes=2&dy=random")
    worst = "return Number(document.querySelector('#verdict').dataset.worst)"
    for term in ("direct", "mean", "variance"):
        assert page.js(worst) < 1e-10
        page.click(f"#terms [name={term}]")
        assert page.verdict() == "disagrees"
        assert page.js(worst) > 0.1
        page.click(f"#terms [name={term}]")
        assert page.verdict() == "agrees"


@needs_browser
def test_inference_is_there_for_batch_norm_alone(page):
    page.open("norm=batch_norm")
    page.click("input[value=inference]")
    assert "norm=batch_norm_inference" in page.browser.current_url
    page.click("input[value=rms_norm]")
    assert not page.find("input[value=inference]").is_enabled()
    assert not page.find("#terms [name=mean]").is_enabled()


@needs_browser
def test_shape_groups_and_eps_are_chosen(page):
    page.open("norm=group_norm&dy=random")
    size = page.find("[name=size1]")
    size.clear()
    size.send_keys("8\n")
    select = "document.querySelector('[name={}]')"
    for name, value in (("num_groups", "4"), ("eps", "0.1")):
        page.find(f"[name={name}] option[value='{value}'], [name={name}]").send_keys(value)
        assert page.js(f"return {select.format(name)}.value") == value
    assert len(set(page.sets())) == 8
    assert page.text("#summary").endswith("8 sets of m = 8; gamma has shape (8,).")
    assert_the_program_agrees(page)


def press(page, *keys):
    for key in keys:
        for kind in ("rawKeyDown", "keyUp"):
            page.cdp("Input.dispatchKeyEvent", type=kind, key=key, code=key)


@needs_browser
def test_keys_move_send_one_gradient_and_bring_all_back(page):
    page.open("norm=layer_norm&cell=0&dy=random")
    page.js("document.querySelector(arguments[0]).focus()", page.cell("y", 0))
    focused = "return Number(document.activeElement.dataset.i)"
    press(page, "ArrowRight", "ArrowDown", "End", "ArrowRight")
    assert page.js(focused) == 32  # the second row's neighbour on the next card
    press(page, "Enter")
    assert np.flatnonzero(page.values("dy")).tolist() == [32]
    assert page.js(focused) == 32
    press(page, "Escape")
    assert np.count_nonzero(page.values("dy")) > 40


@needs_browser
def test_a_control_keeps_the_focus_when_it_changes_the_page(page):
    page.open("norm=layer_norm")
    page.click("[name=axis1]")
    assert "axes=1.2" in page.browser.current_url
    assert page.js("return document.activeElement.name") == "axis1"
    page.click("[name=rank] option[value='2']")
    assert page.browser.current_url.endswith("shape=2.3&axes=1")
    assert page.text("#summary").startswith("Layer norm: mean and variance over D. 2 sets")


@needs_browser
def test_the_address_brings_back_the_view(page):
    state = "norm=rms_norm&shape=3.4&axes=1&eps=0.1&seed=9&off=variance&cell=7&hot=2"
    page.load(state)
    before = page.values("dx")
    assert page.browser.current_url.endswith(f"#{state}")
    page.js("location.hash = 'norm=batch_norm'")
    page.browser.back()
    assert np.array_equal(page.values("dx"), before)
    assert page.text("#reading th code") == "x[1, 3]"


@needs_browser
def test_the_program_is_copied(page):
    from selenium.webdriver.support.wait import WebDriverWait

    permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    page.cdp("Browser.grantPermissions", permissions=permissions)
    page.open("norm=group_norm")
    page.click("#copy-call")
    WebDriverWait(page.browser, 5).until(lambda _: page.text("#copy-call") == "Copied")
    read = "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](`${error}`))"
    assert page.browser.execute_async_script(read) == page.text("#call")


@needs_browser
@pytest.mark.parametrize("shape", ["8.8", "4.8.4.4"])
def test_nothing_is_wider_than_the_window(page, shape):
    page.open(f"norm=layer_norm&shape={shape}")
    for width in (1920, 1280, 768, 360):
        page.resize(width)
        assert page.js("return document.documentElement.scrollWidth") <= width


@needs_browser
def test_everything_that_can_be_used_has_a_name(page):
    page.open("norm=layer_norm")
    roles = {"button", "checkbox", "radio", "combobox", "spinbutton", "gridcell", "link", "grid"}
    nodes = page.cdp("Accessibility.getFullAXTree")["nodes"]
    used = [n for n in nodes if not n["ignored"] and n["role"]["value"] in roles]
    assert len(used) > 300
    assert [n for n in used if not n["name"]["value"].strip()] == []


@needs_browser
def test_it_follows_the_system_to_dark_and_back(page):
    colour = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.cdp("Emulation.setEmulatedMedia", features=[feature])
        seen[scheme] = page.load("norm=layer_norm").js(colour)
    assert seen["light"] != seen["dark"]
    assert page.load("norm=layer_norm&theme=light").js(colour) == seen["light"]
    page.cdp("Emulation.setEmulatedMedia", features=[])


@needs_browser
def test_it_asks_for_nothing_beside_itself(page):
    page.load("norm=layer_norm")
    assert page.js("return performance.getEntriesByType('resource').map((e) => e.name)") == []
