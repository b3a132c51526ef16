"""The page of `cristae compare`: the strongest differences in words, every feature in strips, and how it was tested.

::

    out/index.html      reads from the files beside it; nothing is fetched from elsewhere
    out/figure-*.svg    strips of one class, a panel for each feature; the same as figure-*.png for slides

Made of the files of the folder alone: the projects may be gone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cristae.comparison import ALPHA
from cristae.errors import DataError
from cristae.files import writable, write_atomically
from cristae.palette import MARKERS, class_colour
from cristae.report.parts import Key, Picture
from cristae.report.strips import MOST_POINTS, PER_FIGURE, Panel, Strip, draw_strips, save
from cristae.report.templates import open_template
from cristae.stages.comparison_text import (
    FEW,
    counts,
    in_a_row,
    largest,
    number,
    p_words,
    sentences,
    strength,
    strongest,
)
from cristae.stages.measured import by_family, title_of, unit_of
from cristae.stages.options import Options

_KINDS: tuple[Literal["svg", "png"], ...] = ("svg", "png")
MOST_ROWS = 40
"""Differences in the table of the page; all are in ``comparison.csv``."""


@dataclass(frozen=True)
class _Tables:
    """What the folder of a comparison holds."""

    facts: Mapping[str, Any]
    pairs: pd.DataFrame
    overall: pd.DataFrame | None
    objects: pd.DataFrame
    dictionary: Mapping[str, Mapping[str, str]]

    @property
    def groups(self) -> Mapping[str, Sequence[str]]:
        return {str(name): list(samples) for name, samples in self.facts["groups"].items()}


def build_comparison(folder: Path, options: Options | None = None) -> Path:
    """Write the page and the figures of a comparison, in place of earlier ones.

    Parameters
    ----------
    folder
        Written by `cristae.stages.compare.compare`.
    options
        Whom to tell how far it is.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DataError
        If the folder holds no finished comparison.
    ResourceError
        If it cannot be written.
    """
    tables = _read(folder)
    with writable(folder):
        for old in (*folder.glob("figure-*.svg"), *folder.glob("figure-*.png")):
            old.unlink()
        classes = list(dict.fromkeys(tables.pairs["class"])) if len(tables.pairs) else []
        sections, progress = [], (options or Options()).progress("figures")
        for at, kind in enumerate(classes, start=1):
            sections.append((kind, list(_figures(tables, kind, at, folder))))
            progress(at, len(classes))
        differ = strongest(tables.pairs)
        shown = differ if len(differ) else largest(tables.pairs)
        most = tables.objects.groupby(["class", "sample_id"], sort=False).size().max() if len(tables.objects) else 0
        context = {
            "name": in_a_row(list(tables.groups)),
            "groups": tables.groups,
            "legend_keys": [
                Key(class_colour(at), "fill", name if list(samples) == [name] else f"{name}: {', '.join(samples)}")
                for at, (name, samples) in enumerate(tables.groups.items())
            ],
            "facts": tables.facts,
            "told": sentences(shown.head(FEW), tables.dictionary),
            "counts": counts(tables.pairs),
            "rows": list(_rows(shown.head(MOST_ROWS), tables.dictionary)),
            "n_different": len(differ),
            "overall": [] if tables.overall is None else list(_overall_rows(tables)),
            "sections": sections,
            "thinned": MOST_POINTS if most > MOST_POINTS else 0,
            "files": sorted(
                path.name for path in folder.iterdir() if path.suffix in (".csv", ".parquet", ".md", ".json")
            ),
            "alpha": ALPHA,
            "made": datetime.now(UTC),
            "version": tables.facts.get("cristae", ""),
        }
        write_atomically(folder / "index.html", open_template("compare.html.j2").render(context))
    return folder / "index.html"


def _read(folder: Path) -> _Tables:
    try:
        facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if not facts.get("id"):
            raise DataError(f"the comparison in {folder} was not finished; run cristae compare again")
        overall = folder / "overall.parquet"
        return _Tables(
            facts,
            pd.read_parquet(folder / "comparison.parquet"),
            pd.read_parquet(overall) if overall.is_file() else None,
            pd.read_parquet(folder / "objects.parquet"),
            json.loads((folder / "dictionary.json").read_text(encoding="utf-8")),
        )
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder} holds no comparison that can be read ({error}); run cristae compare again"
        ) from error


def _figures(tables: _Tables, kind: str, at: int, folder: Path) -> Iterator[tuple[str, list[Picture]]]:
    """Draw and keep the figures of one class; yield them under their headings."""
    table = tables.objects[tables.objects["class"] == kind]
    rows = tables.pairs[tables.pairs["class"] == kind]
    n = itertools.count(1)
    for title, features in by_family(dict.fromkeys(rows["feature"])).items():
        parts = [features[start : start + PER_FIGURE] for start in range(0, len(features), PER_FIGURE)]
        panels = [[_panel(tables, table, rows, name) for name in part] for part in parts]
        yield title, [_keep(folder, f"figure-{at:02d}-{next(n):02d}", part) for part in panels]


def _panel(tables: _Tables, table: pd.DataFrame, rows: pd.DataFrame, feature: str) -> Panel:
    strips = []
    for place, samples in enumerate(tables.groups.values()):
        look = class_colour(place), MARKERS[place % len(MARKERS)]
        for sample in samples:
            one = table[table["sample_id"] == sample]
            values, hollow = one[feature].to_numpy(np.float64), one["touches_edge"].to_numpy(np.bool_)
            strips.append(Strip(sample, values, hollow, *look))
    p = rows.loc[rows["feature"] == feature, "p_bh"].min()
    remark = f"p {p_words(p)}" if len(tables.groups) == 2 else f"least p {p_words(p)}"
    strong = not pd.isna(p) and p <= ALPHA
    return Panel(
        title_of(feature), unit_of(feature, tables.dictionary), tuple(strips), f"{remark} *" if strong else remark
    )


def _keep(folder: Path, name: str, panels: Sequence[Panel]) -> Picture:
    figure = draw_strips(panels)
    for kind in _KINDS:
        (folder / f"{name}.{kind}").write_bytes(save(figure, kind))
    return Picture(f"{name}.svg", f"Strips of {', '.join(f'{one.title} ({one.remark})' for one in panels)}.", "")


def _rows(pairs: pd.DataFrame, dictionary: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    for _, row in pairs.iterrows():
        yield {
            "kind": row["class"],
            "feature": title_of(row["feature"]),
            "unit": unit_of(row["feature"], dictionary),
            "higher": row["higher"],
            "sides": [
                (row[f"group_{side}"], number(row[f"median_{side}"]), int(row[f"n_{side}"])) for side in ("a", "b")
            ],
            "level": row["level"],
            "g": number(row["hedges_g"]),
            "delta": number(round(row["cliffs_delta"], 2)),
            "strength": strength(row["cliffs_delta"]),
            "p": p_words(row["p"]),
            "p_bh": p_words(row["p_bh"]),
            "p_holm": p_words(row["p_holm"]),
            "exact": bool(row["exact"]),
        }


def _overall_rows(tables: _Tables) -> Iterator[dict[str, Any]]:
    assert tables.overall is not None
    for _, row in tables.overall.sort_values("p_bh", kind="stable").head(MOST_ROWS).iterrows():
        if row["p_bh"] <= ALPHA:
            yield {
                "kind": row["class"],
                "feature": title_of(row["feature"]),
                "test": row["test"],
                "p": p_words(row["p"]),
                "p_bh": p_words(row["p_bh"]),
                "p_holm": p_words(row["p_holm"]),
            }
