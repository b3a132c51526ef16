"""Comparison of samples, feature by feature and class by class: whether they differ, by how much, and how surely.

::

    table of objects          pairs: a row per class, feature and pair of groups
    sample class   solidity   class    feature   higher  Hedges' g  Cliff's delta  p       p after Holm, BH
    PTT    nucleus 0.95       nucleus  solidity  PTT     2.1        0.9            0.0001  0.01  0.002
    Bx2    nucleus 0.81  -->

**What is a replicate.** Objects of one sample share donor, block, staining and image; they are not independent. A test
that permutes them says whether these very samples differ, not whether the tissues or treatments they stand for do: it
is *exploratory*, and is marked so. Groups of several samples are tested by permuting whole samples, each counting once
by the mean (or median) of its objects. That needs enough samples for p to reach 0.05 at all, such as four against four.

Papers: L. V. Hedges (1981), J. Educ. Stat. 6, 107, eqs. 6e and 7 (g); N. Cliff (1993), Psychol. Bull. 114, 494 (delta);
S. Holm (1979), Scand. J. Stat. 6, 65; Y. Benjamini and Y. Hochberg (1995), J. R. Stat. Soc. B 57, 289; S. E. Lazic
(2010), BMC Neurosci. 11, 5 (objects are not replicates).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import gammaln

from cristae.permutation import Statistic, permutation_tests, smallest_p

Level = Literal["auto", "samples", "objects"]

ALPHA = 0.05
"""The p that samples must be able to reach for a test by samples."""
BY_OBJECTS = (
    "Objects were permuted. Those of one sample are not independent replicates: they share donor, block, staining and "
    "image. These p-values are exploratory: they say whether these samples differ, not whether the tissues or "
    "treatments they stand for do."
)
BY_SAMPLES = "Whole samples were permuted: each counts once, by the {} of its objects."
_SUMMARIES = ("mean", "median", "sd")


@dataclass(frozen=True, slots=True)
class Procedure:
    """How groups are compared.

    Parameters
    ----------
    statistic
        ``mean`` or ``median``: what is compared, and what stands for a sample.
    level
        What is permuted: ``objects``, ``samples``, or ``auto``: samples where there are enough for p to reach 0.05.
    n_permutations
        Above this number of arrangements, as many are drawn.
    seed
        Of what is drawn.
    """

    statistic: Statistic = "mean"
    level: Level = "auto"
    n_permutations: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """What a comparison gives.

    Parameters
    ----------
    pairs
        One row per class, feature and pair of groups: what was permuted (``level``), number, mean, median and standard
        deviation of either group (of samples' means if samples were permuted), ``difference`` of the means or medians
        (a − b), which group is ``higher``, ``hedges_g`` and ``cliffs_delta`` (above 0 where a is higher), ``p``,
        ``p_holm`` and ``p_bh`` (corrected over all rows), ``exact``, ``n_arrangements``, ``exploratory``, ``note``.
    overall
        One row per class and feature of more than two groups: whether any differs; empty for two.
    groups
        One row per class, feature and group: numbers, mean, standard deviation, quartiles and range of its objects.
    notes
        What a reader has to know, as sentences.
    """

    pairs: pd.DataFrame
    overall: pd.DataFrame
    groups: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """One feature of one class: values of objects, and of samples, by group."""

    kind: str
    feature: str
    objects: Mapping[str, np.ndarray]
    samples: Mapping[str, np.ndarray]

    def units(self, level: str) -> Mapping[str, np.ndarray]:
        return self.samples if level == "samples" else self.objects


def compare_groups(
    table: pd.DataFrame,
    groups: Mapping[str, Sequence[str]],
    features: Sequence[str],
    procedure: Procedure | None = None,
) -> Comparison:
    """Compare groups of samples by every feature of every class.

    Parameters
    ----------
    table
        One row per object: ``sample_id``, ``class``, and columns of numbers. What is not finite is left out.
    groups
        At least two names, each with the samples that belong to it; a sample without objects is allowed.
    features
        Columns to compare.
    procedure
        How; see `Procedure` for defaults.

    Returns
    -------
    Comparison
        Nothing in it depends on the order of rows. Groups are in the order given; exchanging two flips the signs of
        differences and effect sizes.

    Raises
    ------
    ValueError
        If there are fewer than two groups, one has no samples, a sample is in two, or the table lacks a column.
    """
    procedure = procedure or Procedure()
    _check(table, groups, features)
    columns, notes = [], []
    for kind in dict.fromkeys(table["class"]):
        of_class = table[table["class"] == kind]
        absent = [name for name, samples in groups.items() if not of_class["sample_id"].isin(samples).any()]
        if absent:
            notes.append(f"{kind}: no objects in {', '.join(absent)}.")
        columns += list(_columns(of_class, groups, features, procedure.statistic))
    pairs = _pairs(columns, list(groups), procedure)
    overall = _overall(columns, list(groups), procedure) if len(groups) > 2 else _corrected(pd.DataFrame())
    return Comparison(pairs, overall, _describe(columns, groups), (*_notes(pairs, procedure), *notes))


def hedges_g(first: np.ndarray, second: np.ndarray) -> float:
    """Return the difference of means in pooled standard deviations, corrected for few values (Hedges 1981).

    Above 0 where the first is higher. NaN for fewer than four values in all (the correction needs two degrees of
    freedom), and where the values of either group do not differ but those of both do; 0 where none differ.
    """
    n_first, n_second = len(first), len(second)
    free = n_first + n_second - 2
    if min(n_first, n_second) < 1 or free < 2:
        return math.nan
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 0.0 if first[0] == second[0] else math.nan
    scale = max(np.abs(first).max(), np.abs(second).max())  # or squares overflow
    first, second = first / scale, second / scale
    squares = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
    correction = math.exp(gammaln(free / 2) - gammaln((free - 1) / 2)) / math.sqrt(free / 2)
    return float((first.mean() - second.mean()) / math.sqrt(squares / free) * correction)


def cliffs_delta(first: np.ndarray, second: np.ndarray) -> float:
    """Return how much oftener a value of the first is above one of the second than below: −1 to 1 (Cliff 1993).

    1 where all values of the first are higher, 0 where it is as often one as the other; NaN without values.
    """
    if not len(first) or not len(second):
        return math.nan
    ordered = np.sort(second)
    below, above = np.searchsorted(ordered, first, "left"), np.searchsorted(ordered, first, "right")
    return float((below.sum() - (len(second) - above).sum()) / (len(first) * len(second)))


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values by Holm's steps: the chance of a single false finding among all is kept. NaN stays NaN."""
    found = np.isfinite(p)
    order = np.argsort(p[found], kind="stable")
    steps = np.maximum.accumulate(p[found][order] * np.arange(found.sum(), 0, -1))
    return _put_back(p, found, order, steps)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return p-values by Benjamini's and Hochberg's steps: the share of false findings is kept. NaN stays NaN."""
    found = np.isfinite(p)
    order = np.argsort(-p[found], kind="stable")
    n = int(found.sum())
    return _put_back(p, found, order, np.minimum.accumulate(p[found][order] * n / np.arange(n, 0, -1)))


def _put_back(p: np.ndarray, found: np.ndarray, order: np.ndarray, steps: np.ndarray) -> np.ndarray:
    corrected = np.full(p.shape, np.nan)
    corrected[np.flatnonzero(found)[order]] = np.minimum(steps, 1.0)
    return corrected


def _check(table: pd.DataFrame, groups: Mapping[str, Sequence[str]], features: Sequence[str]) -> None:
    if len(groups) < 2:
        raise ValueError(f"expected at least two groups to compare, got {', '.join(groups) or 'none'}")
    empty = [name for name, samples in groups.items() if not samples]
    if empty:
        raise ValueError(f"expected samples in every group; there are none in {', '.join(empty)}")
    samples = [sample for names in groups.values() for sample in dict.fromkeys(names)]
    twice = sorted({sample for sample in samples if samples.count(sample) > 1})
    if twice:
        raise ValueError(f"expected every sample in one group, found {', '.join(twice)} in several")
    missing = [name for name in ("sample_id", "class", *features) if name not in table.columns]
    if missing:
        raise ValueError(f"the table has no column {', '.join(missing)}")


def _columns(
    table: pd.DataFrame, groups: Mapping[str, Sequence[str]], features: Sequence[str], statistic: Statistic
) -> Iterator[_Column]:
    """Yield the features of one class that have a value in any group."""
    kind = str(table["class"].iloc[0])
    rows = {sample: np.flatnonzero((table["sample_id"] == sample).to_numpy()) for sample in _samples(groups)}
    middle = np.mean if statistic == "mean" else np.median
    for feature in features:
        values = table[feature].astype(np.float64).to_numpy()
        # Ascending, so that sums do not depend on the order of rows.
        kept = {sample: np.sort(values[place][np.isfinite(values[place])]) for sample, place in rows.items()}
        objects = {name: np.sort(np.concatenate([kept[one] for one in ids])) for name, ids in groups.items()}
        if any(len(one) for one in objects.values()):
            samples = {
                name: np.sort([float(middle(kept[one])) for one in ids if len(kept[one])])
                for name, ids in groups.items()
            }
            yield _Column(kind, str(feature), objects, samples)


def _samples(groups: Mapping[str, Sequence[str]]) -> list[str]:
    return [sample for samples in groups.values() for sample in samples]


def _level(column: _Column, names: Sequence[str], procedure: Procedure) -> str:
    """Return what is permuted: samples, where that is asked for or there are enough of them."""
    if procedure.level != "auto":
        return procedure.level
    return "samples" if smallest_p([len(column.samples[name]) for name in names]) <= ALPHA else "objects"


def _pairs(columns: Sequence[_Column], names: Sequence[str], procedure: Procedure) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    cases: list[list[np.ndarray]] = []
    for column, (a, b) in itertools.product(columns, itertools.combinations(names, 2)):
        level = _level(column, (a, b), procedure)
        first, second = (column.units(level)[name] for name in (a, b))
        row: dict[str, Any] = {
            "class": column.kind,
            "feature": column.feature,
            "group_a": a,
            "group_b": b,
            "level": level,
        }
        for title, of in (("n", column.units(level)), ("n_samples", column.samples), ("n_objects", column.objects)):
            row |= {f"{title}_a": len(of[a]), f"{title}_b": len(of[b])}
        told = [dict(zip(_SUMMARIES, _summary(values), strict=True)) for values in (first, second)]
        row |= {f"{key}_{side}": told[place][key] for key in _SUMMARIES for place, side in enumerate("ab")}
        difference = _difference(*(one[procedure.statistic] for one in told))
        row |= {
            "difference": difference,
            "higher": a if difference > 0 else b if difference < 0 else "",
            "hedges_g": hedges_g(first, second),
            "cliffs_delta": cliffs_delta(first, second),
            "note": _remark(first, second, (a, b)),
        }
        rows.append(row)
        cases.append([first, second])
    return _tested(rows, cases, procedure)


def _overall(columns: Sequence[_Column], names: Sequence[str], procedure: Procedure) -> pd.DataFrame:
    """Test all groups that have values together."""
    rows: list[dict[str, Any]] = []
    cases: list[list[np.ndarray]] = []
    for column in columns:
        there = [name for name in names if len(column.objects[name])]
        if len(there) > 1:
            level = _level(column, there, procedure)
            rows.append(
                {
                    "class": column.kind,
                    "feature": column.feature,
                    "level": level,
                    "test": _test_name(procedure.statistic, len(there)),
                    "n_groups": len(there),
                    "n": sum(len(column.units(level)[name]) for name in there),
                    "note": "" if len(there) == len(names) else f"only {', '.join(there)}",
                }
            )
            cases.append([column.units(level)[name] for name in there])
    return _tested(rows, cases, procedure)


def _test_name(statistic: Statistic, n_groups: int) -> str:
    if statistic == "mean":
        return "F"
    return "Kruskal-Wallis" if n_groups > 2 else "difference of medians"


def _tested(rows: list[dict[str, Any]], cases: list[list[np.ndarray]], procedure: Procedure) -> pd.DataFrame:
    results = permutation_tests(
        cases, statistic=procedure.statistic, n_permutations=procedure.n_permutations, seed=procedure.seed
    )
    for row, result in zip(rows, results, strict=True):
        note = row.pop("note")
        row |= {"p": result.p, "exact": result.exact, "n_arrangements": result.n_arrangements}
        row |= {"exploratory": row["level"] == "objects", "note": note}
    return _corrected(pd.DataFrame(rows))


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Add p-values corrected over all rows, behind p."""
    if len(table):
        p = table["p"].to_numpy(np.float64)
        place = list(table.columns).index("p") + 1
        table.insert(place, "p_holm", holm(p))
        table.insert(place + 1, "p_bh", benjamini_hochberg(p))
    return table


def _summary(values: np.ndarray) -> tuple[float, float, float]:
    if not len(values):
        return math.nan, math.nan, math.nan
    return float(values.mean()), float(np.median(values)), _sd(values)


def _difference(first: float, second: float) -> float:
    """Return the first less the second, 0 where they differ by rounding alone."""
    return 0.0 if math.isclose(first, second, rel_tol=1e-12) else first - second


def _sd(values: np.ndarray) -> float:
    if len(values) < 2:
        return math.nan
    return float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0


def _remark(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> str:
    """Say why a row has no test or no effect size, or one that says little."""
    empty = [name for name, values in zip(names, (first, second), strict=True) if not len(values)]
    if empty:
        return f"no values in {' and '.join(empty)}"
    pooled = np.concatenate([first, second])
    if np.ptp(pooled) == 0:
        return "all values are equal"
    if np.ptp(first) == 0 and np.ptp(second) == 0 and len(pooled) > 3:
        return "no spread within groups, so no Hedges' g"
    single = [name for name, values in zip(names, (first, second), strict=True) if len(values) == 1]
    return f"one value only in {' and '.join(single)}" if single else ""


def _describe(columns: Sequence[_Column], groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    rows = []
    for column, name in itertools.product(columns, groups):
        values = column.objects[name]
        found = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]) if len(values) else np.full(5, np.nan)
        row: dict[str, Any] = {"class": column.kind, "feature": column.feature, "group": name}
        row |= {"n_objects": len(values), "n_samples": len(column.samples[name])}
        row |= {"mean": _summary(values)[0], "sd": _sd(values)}
        rows.append(row | dict(zip(("minimum", "q1", "median", "q3", "maximum"), found.tolist(), strict=True)))
    return pd.DataFrame(rows)


def _notes(pairs: pd.DataFrame, procedure: Procedure) -> Iterator[str]:
    if not len(pairs):
        return
    by_objects = pairs["exploratory"]
    if not by_objects.all():
        part = " in part of the rows" if by_objects.any() else ""
        yield BY_SAMPLES.format(procedure.statistic).replace(" were permuted", f" were permuted{part}")
    if by_objects.any():
        yield BY_OBJECTS
    n_tests = int(pairs["p"].notna().sum())
    yield (
        f"p-values are two-sided, by permutation of {procedure.statistic}s; those after Holm and after Benjamini and "
        f"Hochberg (BH) are corrected over all {n_tests:,} tests of this comparison."
    )
    drawn = 1 / (procedure.n_permutations + 1)
    least = [smallest_p(n) if exact else drawn for *n, exact in pairs[["n_a", "n_b", "exact"]].to_numpy().tolist()]
    if n_tests and n_tests * (best := float(np.nanmin(least))) > ALPHA:
        more = (
            "samples or objects" if pairs["exact"].all() else f"permutations, at least {math.ceil(n_tests / ALPHA):,}"
        )
        yield (
            f"With {n_tests:,} tests, Holm's correction cannot reach {ALPHA} here, as no p can be below {best:.2g}; BH "
            "hardly can. That nothing stays does not mean that nothing differs: see effect sizes, compare fewer "
            f"classes or features, or take more {more}."
        )
