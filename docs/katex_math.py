"""Sphinx extension: KaTeX turns every formula into static HTML while the site is built.

A reader needs no JavaScript and no network for it. TeX that KaTeX refuses is a warning at the
formula's own line. Without Node.js, build with `-D html_math_renderer=mathjax`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

HERE = Path(__file__).parent
KATEX = HERE / "node_modules" / "katex" / "dist"
INSTALL = "Formulas need Node.js 20 or later and KaTeX: run `npm ci` in docs/, then build again."
TAG = re.compile(r"\\tag\{([^{}]+)\}")
STOP = re.compile(r"[.,;:?!)]+")

logger = logging.getLogger(__name__)


class Katex:
    """One Node.js process that renders formulas until it is closed."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not KATEX.is_dir():
            raise ExtensionError(INSTALL)
        self.process = subprocess.Popen(
            [node, str(HERE / "katex_lines.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdin
        assert self.process.stdout
        self.into, self.out = self.process.stdin, self.process.stdout

    def render(self, tex: str, *, display: bool) -> dict[str, str]:
        """Return {"html": ...}, or {"error": ...} where KaTeX refuses the formula."""
        self.into.write(json.dumps({"tex": tex, "display": display}) + "\n")
        self.into.flush()
        line = self.out.readline()
        if not line:
            raise ExtensionError(f"The KaTeX process ended early. {INSTALL}")
        answer: dict[str, str] = json.loads(line)
        return answer

    def close(self) -> None:
        self.into.close()
        self.out.close()
        self.process.wait(timeout=10)


def katex_of(app: Sphinx) -> Katex:
    """Return this process's renderer; a forked writer must not share its parent's pipes."""
    renderers: dict[int, Katex] = app.__dict__.setdefault("katex_renderers", {})
    if os.getpid() not in renderers:
        renderers[os.getpid()] = Katex()
    return renderers[os.getpid()]


def close_katex(app: Sphinx, exception: Exception | None) -> None:
    own = app.__dict__.get("katex_renderers", {}).pop(os.getpid(), None)
    if own is not None:
        own.close()


def aligned(tex: str) -> str:
    """Wrap lines that bring no environment of their own, as MyST and reST allow them."""
    bare = re.sub(
        r"\\begin\{(\w+)\*?\}.*?\\end\{\1\*?\}", "", tex, flags=re.DOTALL
    )
    if r"\\" in bare or re.search(r"(?<!\\)&", bare):
        return rf"\begin{{aligned}}{tex}\end{{aligned}}"
    return tex


def rendered(
    translator: Any, node: nodes.Element, tex: str, *, display: bool
) -> str:
    answer = katex_of(translator.builder.app).render(tex, display=display)
    if "error" in answer:
        logger.warning(
            "KaTeX: %s", answer["error"], location=node, type="katex"
        )
        return f"<code>{escape(tex)}</code>"
    return answer["html"]


def visit_inline(translator: Any, node: nodes.math) -> None:
    html = rendered(translator, node, node.astext().strip(), display=False)
    stop = escape(node.get("stop", ""))
    translator.body.append(f'<span class="math-inline">{html}{stop}</span>')
    raise nodes.SkipNode


def attach_stops(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Move a full stop into the formula before it: browsers would break the line between them."""
    for node in list(doctree.findall(nodes.math)):
        after = node.next_node(descend=False, siblings=True)
        stop = STOP.match(after) if isinstance(after, nodes.Text) else None
        if stop is not None:
            node["stop"] = stop[0]
            place = (
                node.parent.index(node) + 1
            )  # another text may equal `after`
            node.parent[place] = nodes.Text(after[stop.end() :])


def visit_block(translator: Any, node: nodes.math_block) -> None:
    # The number stands beside the formula, not over it, so that a narrow screen can scroll the
    # formula alone. The class is not "math", which the theme lays out in its own way.
    tex = node.astext().strip()
    tag = TAG.search(tex)
    number, anchor = (f"({tag[1]})", f"eq-{tag[1]}") if tag else ("", "")
    if node.get("label"):
        number, anchor = f"({node['number']})", node["ids"][0]
    html = rendered(translator, node, aligned(TAG.sub("", tex)), display=True)
    name = f' id="{escape(anchor)}"' if anchor else ""
    link = (
        f'<a class="math-number" href="#{escape(anchor)}">{number}</a>'
        if number
        else ""
    )
    translator.body.append(
        f'<div class="math-block"{name}><div class="math-formula">{html}</div>{link}</div>\n'
    )
    raise nodes.SkipNode


def copy_style(app: Sphinx) -> None:
    """Copy KaTeX's style sheet and fonts beside the pages, so that no page asks another host."""
    if (
        app.builder.format != "html"
        or app.builder.math_renderer_name != "katex_build"
    ):
        return
    if not KATEX.is_dir():
        raise ExtensionError(INSTALL)
    target = Path(app.outdir) / "_static" / "katex"
    (target / "fonts").mkdir(parents=True, exist_ok=True)
    for font in (KATEX / "fonts").glob("*.woff2"):
        shutil.copy(font, target / "fonts")
    style = (KATEX / "katex.min.css").read_text(encoding="utf-8")
    (target / "katex.min.css").write_text(woff2_only(style), encoding="utf-8")


def woff2_only(style: str) -> str:
    """Drop the older font formats, which every browser that reads WOFF2 ignores."""
    return re.sub(
        r',url\([^)]*\.(?:woff|ttf)\) format\("(?:woff|truetype)"\)', "", style
    )


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer(
        "katex_build",
        inline_renderers=(visit_inline, None),
        block_renderers=(visit_block, None),
    )
    app.add_css_file("katex/katex.min.css")
    app.connect("builder-inited", copy_style)
    app.connect("doctree-resolved", attach_stops)
    app.connect("build-finished", close_katex)
    return {
        "version": "1",
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
