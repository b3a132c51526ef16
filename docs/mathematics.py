r"""Turns equations of pages into MathML when the site is built, so that readers need neither scripts nor a network.

``$…$`` within a line and ``$$…$$`` in lines of their own, in LaTeX, as forges show them too. What stands in code is
left alone: pymdownx.arithmatex finds the equations, and this hook of MkDocs turns what it found.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FOUND = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_page_content(content: str, **_: Any) -> str:
    """Return the page with its equations as MathML; called by MkDocs."""
    return _FOUND.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found["open"] == "[" else "inline"
    return convert(html.unescape(found["latex"]).strip(), display=display)
