"""What the report tells of doubt: where two networks differ, whether they are wrong there, and where to look first.

::

    two networks differ ──> are they wrong there? (curve, with truth) ──> look first at these slices, there first
    one or two networks ──> does a probability of .8 mean 80 %? (reliability curve, with truth)

Slices to look at need no truth: that is what doubt is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cristae.errors import DataError
from cristae.geometry import Box
from cristae.io.ome_zarr import CHUNK, n_levels, open_volume
from cristae.palette import GRIDDED, SKY, class_line
from cristae.report import overlays
from cristae.report.figures import as_svg
from cristae.report.gather import Findings, read_table
from cristae.report.parts import Key, Picture, Section, Writer, read_slice
from cristae.stages.layers import disagreeing, disagreement_of, open_layer

FIRST = 3
"""Slices per class that a reader should look at first."""
MOST_CLASSES = 6
"""Classes of which a slice is shown."""
ENOUGH = 50
"""Voxels of a bin from which on it is drawn; shares of fewer jump about."""
USEFUL = 0.1
"""Share of all errors in the most doubtful 5 % of voxels from which on doubt is a sign of errors: twice chance."""


@dataclass(frozen=True)
class Row:
    """What is known of the doubt about one class; numbers 0–1, None where they cannot be told.

    `found` are the shares of all errors among the most doubtful 1, 5 and 10 % of voxels, `slices` the z to look at
    first.
    """

    name: str
    auc: float | None
    plain_auc: float | None
    found: tuple[float | None, ...]
    calibration_error: float | None
    slices: tuple[int, ...]

    @property
    def is_useful(self) -> bool:
        """Whether doubt finds errors."""
        return self.found[1] is not None and self.found[1] >= USEFUL


@dataclass(frozen=True)
class CertaintyPart:
    """Parts of the section.

    `words` say what the numbers mean for proofreading; `pair` is whether two networks predicted, `scored` whether it is
    known of any class if they err where they differ.
    """

    words: tuple[str, ...]
    rows: tuple[Row, ...]
    pair: bool
    scored: bool
    differ: Picture | None
    reliability: Picture | None
    sections: tuple[Section, ...]

    @property
    def heading(self) -> str:
        """Of the curve of errors: what it shows, where that is true of all classes."""
        known = [row for row in self.rows if row.auc is not None]
        if known and all(row.is_useful for row in known):
            return "Where two networks differ, they are wrong more often"
        return "Are two networks wrong where they differ?"


def certainty_part(found: Findings, writer: Writer) -> CertaintyPart | None:
    """Return what there is to show of doubt; None where nothing is known of it.

    Parameters
    ----------
    found
        What is known of the project.
    writer
        Keeper of files.
    """
    scores = next((one for one in found.score_sets if not one.is_cross_validation), None)
    tables: list[pd.DataFrame | None] = [None, None]
    if scores is not None:
        tables = [read_table(scores.run, f"{stem}.csv", []) for stem in ("calibration", "reliability")]
    differ, reliable = (_drawable(table, column) for table, column in zip(tables, ("n_wrong", "n_true"), strict=True))
    facts: Mapping[str, Mapping[str, Any]] = scores.scores["classes"] if scores else {}
    unsure = disagreeing(found.predict) if found.predict is not None else ()
    if differ is None and reliable is None and not unsure:
        return None
    first = {name: _look_first(found, name) for name in unsure}
    rows = tuple(_row(name, facts.get(name, {}), first.get(name, ())) for name in dict.fromkeys([*unsure, *facts]))
    return CertaintyPart(
        tuple(_words(rows, bool(unsure))),
        rows,
        bool(unsure),
        any(row.auc is not None for row in rows),
        None if differ is None else _differ_picture(differ, rows, found.classes, writer),
        None if reliable is None else _reliability_picture(reliable, rows, found.classes, writer),
        tuple(_sections(found, {name: first[name] for name in unsure[:MOST_CLASSES]}, writer)),
    )


def errors_by_disagreement(table: pd.DataFrame, classes: Sequence[str]) -> str:
    """Draw the share of wrong voxels, and below it the share of all voxels, against how far two networks are apart.

    Parameters
    ----------
    table
        As `cristae.stages.calibration.calibration_table` makes it.
    classes
        Classes of the project, in order.

    Returns
    -------
    str
        SVG.
    """
    panels = _Panels(
        of=("disagreement_mean", "error_rate"),
        labels=("difference between the probabilities of the two networks", "share of voxels\nthat are wrong"),
        top=max(0.1, min(1.02, 1.15 * float(table["error_rate"].max()))),
        size=(4.8, 1.6),
    )
    return _over_share_of_voxels(table, classes, panels)


def reliability_curve(table: pd.DataFrame, classes: Sequence[str]) -> str:
    """Draw which share of voxels is of the class against the probability predicted, with the share of all voxels.

    Parameters
    ----------
    table
        As `cristae.stages.calibration.reliability_table` makes it.
    classes
        Classes of the project, in order.

    Returns
    -------
    str
        SVG.
    """
    panels = _Panels(
        of=("probability_mean", "true_share"),
        labels=("predicted probability", "share that is of the class"),
        top=1.02,
        size=(5.6, 2.4),
        diagonal="as it should be",
    )
    return _over_share_of_voxels(table, classes, panels)


def most_doubtful(doubt: Mapping[int, float], n: int) -> tuple[int, ...]:
    """Return at most `n` z, most doubtful first, none beside one that is more doubtful: it would show the same again.

    Parameters
    ----------
    doubt
        Per z, its mean; slices without any are never chosen.
    n
        How many at most.
    """
    apart = max(1, len(doubt) // (8 * max(1, n)))
    chosen: list[int] = []
    for z in sorted(doubt, key=lambda z: (-doubt[z], z)):
        if len(chosen) < n and doubt[z] > 0 and all(abs(z - other) > apart for other in chosen):
            chosen.append(z)
    return tuple(chosen)


def _look_first(found: Findings, name: str) -> tuple[int, ...]:
    """Return the slices on which two networks differ most, of those that nobody painted for training."""
    assert found.predict is not None
    try:
        path = found.predict.path / f"{disagreement_of(name)}.ome.zarr"
        layer, finest = open_volume(path, n_levels(path) - 1), open_layer(found.predict, disagreement_of(name))
    except DataError:
        return ()
    # Means of the coarsest level are those of the finest, up to rounding, and cost next to nothing.
    factor = round(layer.grid.voxel_size[0] / finest.grid.voxel_size[0])
    known = set(found.labelled.get(name, ())) | set(found.project.lost_slices)
    depth, height, width = layer.shape
    doubt: dict[int, float] = {}
    for start in range(0, depth, CHUNK[0]):
        slab = layer.read(Box((start, 0, 0), (min(start + CHUNK[0], depth), height, width)))
        for z, mean in enumerate(slab.mean(axis=(1, 2), dtype=np.float64), start=start):
            middle = min(z * factor + factor // 2, finest.shape[0] - 1)
            if middle not in known:
                doubt[middle] = float(mean)
    return most_doubtful(doubt, FIRST)


def _row(name: str, facts: Mapping[str, Any], slices: tuple[int, ...]) -> Row:
    return Row(
        name,
        facts.get("disagreement_auc"),
        facts.get("probability_auc"),
        tuple(facts.get(f"errors_in_most_unsure_{percent}_percent") for percent in (1, 5, 10)),
        facts.get("calibration_error"),
        slices,
    )


def _words(rows: Sequence[Row], pair: bool) -> Iterator[str]:
    """Yield sentences on what to do."""
    if not pair:
        return
    for row in rows:
        if row.auc is None or row.found[1] is None:
            continue
        if row.is_useful:
            words = (
                f"the 5 % of voxels on which the two networks differ most hold {_percent(row.found[1])} of all errors."
            )
            words += " Correct there first."
        else:
            words = (
                f"the 5 % of voxels on which the two networks differ most hold {_percent(row.found[1])} of all errors; "
                "chance would find 5 %. They err together: look at slices far from labelled ones instead."
            )
        if row.plain_auc is not None and row.plain_auc >= row.auc:
            words += " Probabilities near the threshold are the better sign of errors here."
        yield f"{row.name}: {words}"
    for row in rows:
        if row.slices:
            slices = ", ".join(map(str, row.slices))
            yield f"{row.name}: look first at slices {slices}, where the networks differ most (painted ones left out)."


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}".replace("%", " %")


def _drawable(table: pd.DataFrame | None, needed: str) -> pd.DataFrame | None:
    """Return the rows of a table with enough voxels; None where there are none, or it is another table."""
    if table is None or not {"class", "n_voxels", needed} <= set(table):
        return None
    rows = table[table["n_voxels"] >= ENOUGH]
    return rows if len(rows) else None


def _differ_picture(table: pd.DataFrame, rows: Sequence[Row], classes: Sequence[str], writer: Writer) -> Picture:
    told = ", ".join(f"{row.name} {row.auc:.3f}" for row in rows if row.auc is not None)
    return writer.figure(
        errors_by_disagreement(table, classes),
        f"Share of wrong voxels against the difference between two networks. Area under the ROC curve: {told or '–'}.",
        "Above, of the voxels at each difference the share that is wrong: a line that rises means that the difference "
        "is a sign of errors. Below, how many voxels that are; mind its logarithmic axis. Bins of fewer than "
        f"{ENOUGH} voxels are left out.",
    )


def _reliability_picture(table: pd.DataFrame, rows: Sequence[Row], classes: Sequence[str], writer: Writer) -> Picture:
    told = ", ".join(f"{row.name} {row.calibration_error:.4f}" for row in rows if row.calibration_error is not None)
    return writer.figure(
        reliability_curve(table, classes),
        f"Observed share of each class against its predicted probability. Calibration error: {told or '–'}.",
        "Of the voxels with about the same predicted probability, the share that is of the class. Below the dotted "
        "line the prediction is too sure of the class, above it too timid: another threshold may then do better. "
        f"Below, how many voxels that are. Bins of fewer than {ENOUGH} voxels are not drawn.",
    )


def _sections(found: Findings, first: Mapping[str, Sequence[int]], writer: Writer) -> Iterator[Section]:
    """Show of each class the slice to look at first: prediction, and beside it where the networks differ."""
    if found.image is None or found.predict is None:
        return
    for name, slices in first.items():
        try:
            mask = open_volume(found.predict.path / f"{name}.ome.zarr" / "labels" / name)
            layer = open_layer(found.predict, disagreement_of(name))
        except DataError:
            continue
        if not slices or slices[0] >= found.image.shape[0]:
            continue
        z = slices[0]
        size = found.image.grid.voxel_size
        # Truth is left out: its yellow, and the vermillion of what is wrong, would read as heat.
        content = overlays.Slice(read_slice(found.image, z), (size[1], size[2]), predicted=read_slice(mask, z) != 0)
        pictures = (
            writer.slice(
                overlays.draw(content),
                f"Slice {z} with the prediction of {name} in colour.",
                f"Slice {z}: the prediction",
            ),
            writer.slice(
                overlays.draw_doubt(content, read_slice(layer, z)),
                f"Slice {z} with a heat where two networks differ on {name}.",
                f"Slice {z}: where the two networks differ; lighter is more",
            ),
        )
        shades = ("two networks differ by about 0.1", "by 0.3", f"by {overlays.HEAT_END:g} or more")
        keys = [Key(SKY, "fill", "predicted (on the right, its outline)")]
        keys += [Key(colour, "fill", words) for colour, words in zip(overlays.HEAT, shades, strict=True)]
        yield Section(name, tuple(keys), pictures)


@dataclass(frozen=True)
class _Panels:
    """What two panels above each other show.

    `of` are columns, along x and up the upper panel, with their `labels`; `top` is where its axis ends. `size` is the
    height in inches, and how many times as high as the lower panel the upper one is. `diagonal` names a dotted line
    from 0 to 1; empty: none.
    """

    of: tuple[str, str]
    labels: tuple[str, str]
    top: float
    size: tuple[float, float]
    diagonal: str = ""


def _over_share_of_voxels(table: pd.DataFrame, classes: Sequence[str], panels: _Panels) -> str:
    """Draw a line per class, and below it how many of all voxels each point stands for."""
    height, ratio = panels.size
    x, y = panels.of
    with mpl.rc_context(GRIDDED):
        figure = Figure(figsize=(8.6, height), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(ratio, 1))
        if panels.diagonal:
            above.plot((0, 1), (0, 1), color="black", linestyle=":", linewidth=1.2, label=panels.diagonal)
        for index, name in enumerate(classes):
            rows = table[table["class"] == name]
            if len(rows):
                above.plot(rows[x], rows[y], **class_line(index, name))
                below.plot(rows[x], rows["share_of_voxels"], **class_line(index, name))
        above.set_ylabel(panels.labels[1])
        above.set_ylim(0, panels.top)
        below.set_ylabel("share of\nall voxels")
        below.set_yscale("log")
        below.set_xlabel(panels.labels[0])
        below.set_xlim(0, 1)
        above.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return as_svg(figure)
