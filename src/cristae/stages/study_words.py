"""What a study of networks says in plain words: what to use, how sure that is, and what would bring more."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import linregress
from scipy.stats import t as student

from cristae.stages.study_tables import methods_table, with_methods
from cristae.wording import listed

_NOTHING = 0.002
"""3D Dice below which a gain is none."""
_CHEAPER = 0.9
"""Share of the training time below which a method is called faster."""
_CERTAINTY = 0.95


@dataclass(frozen=True)
class Gain:
    """By how much one thing is better than another: mean and standard deviation over repeats.

    Parameters
    ----------
    mean, sd
        Of the difference in 3D Dice; the deviation is NaN with one repeat.
    repeats
        How many.
    """

    mean: float
    sd: float
    repeats: int

    @property
    def sure(self) -> bool:
        """Whether the mean differs from 0 by more than chance would have it in 1 of 20 studies (Student's t)."""
        if self.repeats < 2:
            return False
        reach = student.ppf(0.5 + _CERTAINTY / 2, self.repeats - 1) * self.sd / math.sqrt(self.repeats)
        return bool(abs(self.mean) > reach)

    @property
    def words(self) -> str:
        """The gain as text."""
        return f"{self.mean:+.3f}" + ("" if math.isnan(self.sd) else f" ± {self.sd:.3f}")


def answer(table: pd.DataFrame) -> list[str]:
    """Return the answer of a study in sentences, the shortest first.

    Parameters
    ----------
    table
        A row per trial and class, as in ``study.csv``.

    Returns
    -------
    list of str
        What to use; how sure that is (with two methods or more); what learning from unlabelled slices brings (where
        it was compared with learning without); what more labelled slices bring (with two numbers of them or more).
    """
    methods = methods_table(table)
    sentences = [_what(methods, table)]
    if len(methods) > 1:
        sentences.append(_how_sure(methods, table))
    for scheme in [one for one in dict.fromkeys(table["scheme"]) if one != "supervised"]:
        sentences += _unlabelled(table, scheme)
    return sentences + _more_slices(table, str(methods["method"].iloc[0]))


def _what(methods: pd.DataFrame, table: pd.DataFrame) -> str:
    first = methods.iloc[0]
    classes, numbers = list(dict.fromkeys(table["class"])), sorted(table["n_slices"].unique())
    over = [
        f"of {classes[0]}" if len(classes) == 1 else f"over {', '.join(classes)}",
        "from 1 labelled slice" if numbers == [1] else f"from {listed(numbers)} labelled slices",
    ]
    dice = f"3D Dice {first['dice_3d']:.3f}" + (" on average" if len(classes) * len(numbers) > 1 else "")
    if len(methods) == 1:
        return f"Only {first['method']} was tried: {dice} {' '.join(over)}."
    return (
        f"Use {first['method']} on this volume: {dice} {' '.join(over)}, average rank {first['average_rank']:.1f} of "
        f"{len(methods)} methods."
    )


def _how_sure(methods: pd.DataFrame, table: pd.DataFrame) -> str:
    first, other = methods.iloc[0], methods.iloc[1]["method"]
    dice = _dices(with_methods(table), "method", ["class", "n_slices"])
    ahead = str(methods.sort_values("dice_3d", ascending=False, kind="stable")["method"].iloc[0])
    lead = _gain(dice, ahead, str(first["method"]))
    if lead.mean > _NOTHING and (lead.sure or lead.repeats < 2):
        return _disagreement(str(first["method"]), ahead, lead)
    gain = _gain(dice, str(first["method"]), str(other))
    if gain.repeats < 2:
        return (
            f"How sure that is cannot be told from one repeat: the next, {other}, differs by {abs(gain.mean):.3f}; try "
            "3 repeats or more."
        )
    if gain.sure and gain.mean > _NOTHING:
        return (
            f"That is sure: in 3D Dice it is {gain.words} ahead of the next, {other}, more than {gain.repeats} repeats "
            "differ by chance."
        )
    verdict = "too little to matter" if gain.sure else "which may be chance"
    words = f"That is not sure: against the next, {other}, it is {gain.words} in 3D Dice, {verdict} "
    words += f"({gain.repeats} repeats)"
    share = methods.iloc[1]["training_seconds"] / first["training_seconds"]
    return words + (f"; that one takes {share:.0%} of the training time." if share < _CHEAPER else ".")


def _disagreement(first: str, ahead: str, lead: Gain) -> str:
    """Return what to make of it that the best average rank and the best mean are those of two methods."""
    chance = (
        f"more than {lead.repeats} repeats differ by chance"
        if lead.sure
        else "how sure that is cannot be told from one repeat"
    )
    return (
        f"Rank and mean disagree: {first} has the best average rank, and {ahead} the best mean 3D Dice, {lead.words} "
        f"ahead, {chance}. The one wins more often, the other by more: look at the tables of each class."
    )


def _unlabelled(table: pd.DataFrame, scheme: str) -> list[str]:
    """Return what a scheme brings over learning from labelled slices alone; nothing where they were not compared."""
    dice = _dices(table, "scheme", ["network", "context_nm", "class", "n_slices"])
    if "supervised" not in dice or not dice[[scheme, "supervised"]].notna().all(axis=1).any():
        return []
    gain = _gain(dice, scheme, "supervised")
    if abs(gain.mean) <= _NOTHING or (gain.repeats > 1 and not gain.sure):
        verdict = "no difference that shows"
    else:
        verdict = "it is worth it" if gain.mean > 0 else "it does harm"
        verdict += "" if gain.repeats > 1 else ", if that is no chance"
    seconds = table.drop_duplicates("trial").groupby("scheme")["training_seconds"].mean()
    ratio = seconds[scheme] / seconds["supervised"]
    time = f", at {ratio:.1f} times the training time" if math.isfinite(ratio) else ""
    numbers = [f"{_gain(rows, scheme, 'supervised').mean:+.3f} with {n}" for n, rows in dice.groupby(level="n_slices")]
    each = f" ({', '.join(numbers)} labelled slices)" if len(numbers) > 1 else ""
    return [
        f"Learning from unlabelled slices by {scheme} brings {gain.words} in 3D Dice over learning without{each}{time}"
        f": {verdict}."
    ]


def _more_slices(table: pd.DataFrame, method: str) -> list[str]:
    """Return what twice as many labelled slices bring the method; nothing where one number of them was tried."""
    numbers = sorted(int(n) for n in table["n_slices"].unique())
    if len(numbers) < 2:
        return []
    rows = with_methods(table)
    rows = rows[rows["method"] == method].dropna(subset="dice_3d")
    gained, error = _per_doubling(rows)
    if not math.isfinite(gained):
        return []
    per_class = [(str(name), _per_doubling(of_class)[0]) for name, of_class in rows.groupby("class", sort=False)]
    each = f" ({', '.join(f'{name} {one:+.3f}' for name, one in per_class)})" if len(per_class) > 1 else ""
    spread = f" ± {error:.3f}" if math.isfinite(error) else ""
    words = f"Twice as many labelled slices bring {method} {gained:+.3f}{spread} in 3D Dice{each}, by a fit over "
    words += f"{listed(numbers)} slices"
    left = 1 - rows.loc[rows["n_slices"] == numbers[-1], "dice_3d"].mean()
    if gained <= _NOTHING:
        return [f"{words}: more labelled slices bring nothing that shows."]
    n_points = len(rows.groupby(["n_slices", "repeat"]))
    if n_points < 3 or gained <= student.ppf(0.5 + _CERTAINTY / 2, n_points - 2) * error:
        return [f"{words}, which may be chance."]
    most = min(gained, left)
    return [
        f"{words}: {2 * numbers[-1]} in place of {numbers[-1]} would bring about {most:+.3f}, and less the closer it "
        "comes to 1."
    ]


def _per_doubling(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the slope of 3D Dice over the binary logarithm of the number of slices, and its standard error."""
    means = rows.groupby(["n_slices", "repeat"])["dice_3d"].mean()
    x = np.log2(means.index.get_level_values("n_slices").to_numpy(float))
    if len(set(x)) < 2:
        return math.nan, math.nan
    fit = linregress(x, means.to_numpy(float))
    return float(fit.slope), float(fit.stderr) if len(x) > 2 else math.nan


def _dices(table: pd.DataFrame, column: str, besides: list[str]) -> pd.DataFrame:
    """Return 3D Dice with a column for each value of `column`, a row for all else that is to be equal."""
    return table.pivot_table(index=[*besides, "repeat"], columns=column, values="dice_3d", aggfunc="mean")


def _gain(dice: pd.DataFrame, one: str, other: str) -> Gain:
    """Return how much better one column is than another: the mean in each repeat, of which mean and deviation."""
    per_repeat = (dice[one] - dice[other]).dropna().groupby(level="repeat").mean()
    return Gain(float(per_repeat.mean()), float(per_repeat.std()), len(per_repeat))
