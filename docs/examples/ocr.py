"""From an image to its text: three trained networks, run by ONNX' evaluator in NumPy.

The package rapidocr-onnxruntime ships them: a detector of lines of text, a classifier that says
whether a line stands on its head, and a recognizer. All norms are this library's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[Any]
Network = Callable[[Array], Array]

FILES = {
    "detector": "ch_PP-OCRv4_det_infer.onnx",
    "classifier": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "recognizer": "ch_PP-OCRv4_rec_infer.onnx",
}


class Box(NamedTuple):
    """A rectangle in an image."""

    top: int
    bottom: int
    left: int
    right: int


def model_file(name: str) -> Path:
    """Return where the package has a model, without importing it."""
    package = find_spec("rapidocr_onnxruntime")
    if package is None or not package.submodule_search_locations:
        raise ImportError(
            "the models are not installed: pip install '.[models]'"
        )
    folder = Path(package.submodule_search_locations[0]) / "models"
    return folder / FILES[name]


def network(runs: Any) -> Network:
    """Return a function of an evaluator's one input."""
    (name,) = runs.input_names

    def run(x: Array) -> Array:
        # ONNX' Sigmoid overflows on its way to 0 and 1.
        with np.errstate(over="ignore", invalid="ignore"):
            y: Array = runs.run(None, {name: x})[0]
        return y

    return run


def characters(path: Path) -> list[str]:
    """Return what the recognizer can read; its file lists them. The first class is nothing."""
    import onnx

    model = onnx.load(path)
    (text,) = (p.value for p in model.metadata_props if p.key == "character")
    return ["", *text.splitlines(), " "]


def draw(
    lines: Sequence[str], size: tuple[int, int] = (288, 128)
) -> Image.Image:
    """Draw lines of text."""
    image = Image.new("RGB", size, (236, 234, 226))
    pen = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        font = ImageFont.load_default(size=28)
        pen.text((24, 20 + 54 * i), line, fill=(30, 30, 60), font=font)
    return image


def as_input(image: Image.Image) -> Array:
    """Return pixels as (1, 3, H, W), from -1 to 1, blue first, as these networks want them."""
    pixels = np.asarray(image, np.float32)[:, :, ::-1] / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]


def runs(flags: Array) -> Iterator[tuple[int, int]]:
    """Yield where a row of flags is true, from and to."""
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(int), 0]))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def lines_in(image: Image.Image, detector: Network) -> list[Box]:
    """Find lines of text: what the detector marks, and a margin that it leaves out."""
    x = as_input(image)
    below, beside = (-n % 32 for n in x.shape[2:])
    x = np.pad(x, ((0, 0), (0, 0), (0, below), (0, beside)), mode="edge")
    marked = detector(x)[0, 0, : image.height, : image.width] > 0.3
    boxes = []
    for top, bottom in runs(marked.any(axis=1)):
        columns = np.flatnonzero(marked[top:bottom].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        width, height = right - left, bottom - top
        if height > 3:
            margin = int(1.6 * width * height / (2 * (width + height)))
            boxes.append(
                Box(
                    max(top - margin, 0),
                    min(bottom + margin, image.height),
                    max(left - margin, 0),
                    min(right + margin, image.width),
                )
            )
    return boxes


def cut(image: Image.Image, box: Box, width: int | None = None) -> Image.Image:
    """Cut a line out, 48 pixels high, and as wide as that makes it."""
    line = image.crop((box.left, box.top, box.right, box.bottom))
    natural = max(round(48 * line.width / line.height), 1)
    scaled = line.resize((min(natural, width or natural), 48))
    if width is None:
        return scaled
    padded = Image.new("RGB", (width, 48), (127, 127, 127))
    padded.paste(scaled)
    return padded


def is_upside_down(line: Image.Image, classifier: Network) -> bool:
    """Say whether a line stands on its head."""
    return bool(classifier(as_input(line))[0, 1] > 0.9)


def decode(scores: Array, alphabet: Sequence[str]) -> str:
    """Read the classes of all places: what repeats counts once, and nothing parts repeats."""
    best = scores.argmax(axis=-1)
    kept = best[np.r_[True, best[1:] != best[:-1]]]
    return "".join(alphabet[i] for i in kept)


def read_line(
    image: Image.Image,
    box: Box,
    networks: dict[str, Network],
    alphabet: Sequence[str],
) -> str:
    """Return the text of one line."""
    line = cut(image, box)
    if is_upside_down(cut(image, box, 192), networks["classifier"]):
        line = line.rotate(180)
    return decode(networks["recognizer"](as_input(line))[0], alphabet)


def read(
    image: Image.Image, networks: dict[str, Network], alphabet: Sequence[str]
) -> list[str]:
    """Return the lines of text in an image."""
    boxes = lines_in(image, networks["detector"])
    return [read_line(image, box, networks, alphabet) for box in boxes]
