"""Draw the README's picture, for light and for dark pages: `python docs/make_readme_figures.py`."""

from __future__ import annotations

from pathlib import Path

from cubes import sets_and_gradients

STATIC = Path(__file__).parent / "_static"
INKS = {"light": "#1f2328", "dark": "#e6edf3"}


def main() -> None:
    """Write one SVG for each kind of page."""
    picture = sets_and_gradients()
    for page, ink in INKS.items():
        path = STATIC / f"sets-and-gradients-{page}.svg"
        path.write_text(picture.file_text(ink) + "\n", encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
