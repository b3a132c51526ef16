"""The templates of all pages, and how they write numbers, moments and durations."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import jinja2

from cristae.wording import number_ranges


def open_template(name: str) -> jinja2.Template:
    """Return a template of this folder."""
    surroundings = jinja2.Environment(
        loader=jinja2.PackageLoader("cristae.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    surroundings.filters.update(score=score_words, moment=_moment, duration=_duration, ranges=number_ranges)
    return surroundings.get_template(name)


def page_script() -> str:
    """Return the script of the page, built from ``page/*.js`` and three.js by ``scripts/build_page.sh``."""
    return (resources.files("cristae.report") / "page.min.js").read_text(encoding="utf-8")


def score_words(value: Any) -> str:
    """Return a score with three digits; – for none."""
    return "–" if value is None or math.isnan(float(value)) else f"{float(value):.3f}"


def _moment(seconds: Any) -> str:
    return "–" if seconds is None else f"{datetime.fromtimestamp(float(seconds), UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: Any) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(float(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
