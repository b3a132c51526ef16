"""The trials of `cristae study networks`: which network learns how, from which slices, how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cristae.errors import DataError, UsageError
from cristae.project import Project
from cristae.wording import number_ranges

USUAL = (7, 10, 15, 25, 50)
"""Numbers of labelled slices that Pagano et al. (2023) and Machireddy et al. (2023) tried."""
_TRIES = 1000
"""Draws of slices before it is given up that each class is on some of the fewest."""

Choice = Literal["even", "random"]


@dataclass(frozen=True)
class Trial:
    """One training of a study.

    Parameters
    ----------
    network, scheme
        By name.
    context_nm
        What a tile spans.
    slices
        z of the labelled slices that are shown, ascending.
    repeat
        From 0; added to the seed.
    """

    network: str
    scheme: str
    context_nm: float
    slices: tuple[int, ...]
    repeat: int

    @property
    def words(self) -> str:
        """The trial in words, for people."""
        n = len(self.slices)
        return f"{self.network}, {self.scheme}, {n} slice{'s' * (n > 1)}, repeat {self.repeat + 1}"


@dataclass(frozen=True)
class Pool:
    """Labelled slices that trials may be shown, and slices with truth.

    Parameters
    ----------
    slices
        z of the slices that have labels of every class, ascending.
    holding
        Per class, those of them on which it is.
    truth
        Per class, z of the slices that can be scored where they are not shown.
    """

    slices: tuple[int, ...]
    holding: Mapping[str, frozenset[int]]
    truth: Mapping[str, tuple[int, ...]]

    @property
    def most(self) -> int:
        """How many slices may be shown so that every class has one left to be scored."""
        kept = any(set(slices) <= set(self.slices) for slices in self.truth.values())
        return len(self.slices) - kept

    def lacking(self, shown: Sequence[int]) -> list[str]:
        """Return the classes that are on none of these slices, or on no other slice that could be scored."""
        return [
            name
            for name, slices in self.truth.items()
            if not self.holding[name] & set(shown) or not set(slices) - set(shown)
        ]


def pool_of(project: Project, classes: Sequence[str], from_truth: bool, only: Sequence[int], never: set[int]) -> Pool:
    """Return what a project offers a study.

    Parameters
    ----------
    project
        With labels of all classes.
    classes
        What is studied.
    from_truth
        Whether the truth is scored against, or else the labels themselves.
    only, never
        Slices that may be shown (empty means all), and that may not.

    Raises
    ------
    DataError
        If there are no slices with labels of all classes.
    """
    annotations = project.annotations

    def allowed(z: int) -> bool:
        return z not in never and (not only or z in only)

    labelled = {name: tuple(z for z in annotations.labelled_slices(name) if allowed(z)) for name in classes}
    slices = tuple(sorted(set.intersection(*map(set, labelled.values()))))
    if not slices:
        raise DataError(
            f"a study shows slices that have labels of every class, and no slice has labels of all of "
            f"{', '.join(classes)}; study one of them: --set 'study_networks.classes=[\"{classes[0]}\"]'"
        )
    holding = {name: frozenset(z for z in slices if (annotations.read_slice(name, z) == 1).any()) for name in classes}
    truth = {name: project.truth.labelled_slices(name) for name in classes} if from_truth else labelled
    return Pool(slices, holding, truth)


def numbers_of_slices(wanted: Sequence[int], pool: Pool) -> tuple[int, ...]:
    """Return how many slices are shown, ascending: those wanted, else the usual ones that exist, else most.

    Raises
    ------
    DataError
        If too few slices are labelled for any trial.
    UsageError
        If more are wanted than there are.
    """
    n, most = len(pool.slices), pool.most
    kept = "" if most == n else ", of which one at least is kept for scoring"
    if most < 1:
        raise DataError(f"a study takes at least 2 labelled slices, one to show and one to score; there is {n}")
    if wanted and max(wanted) > most:
        raise UsageError(
            f"{max(wanted)} labelled slices asked for, and there are {n}{kept} (z {number_ranges(pool.slices)}); ask "
            f"for at most {most} by --set 'study_networks.slices=[...]', or label more"
        )
    return tuple(sorted(set(wanted))) or tuple(count for count in USUAL if count <= most) or (most,)


def choose_slices(
    pool: Pool, numbers: Sequence[int], choice: Choice, repeats: int, seed: int
) -> dict[tuple[int, int], tuple[int, ...]]:
    """Return, per number of slices and repeat, which slices are shown.

    Evenly spaced ones are the same in every repeat, the first and the last slice among them. Random ones differ from
    repeat to repeat, and within a repeat more slices include the fewer ones, so that only their number makes a
    difference.

    Raises
    ------
    DataError
        If a class would be on none of the slices shown, or none would be left to be scored.
    """
    chosen: dict[tuple[int, int], tuple[int, ...]] = {}
    for repeat in range(repeats):
        if choice == "random":
            order = _draw(pool, numbers, np.random.default_rng((seed, repeat)))
            chosen |= {(n, repeat): tuple(sorted(order[:n])) for n in numbers}
        else:
            chosen |= {(n, repeat): _even(pool.slices, n) for n in numbers}
    for shown in chosen.values():
        lacking = pool.lacking(shown)
        if lacking:
            raise DataError(
                f"{', '.join(lacking)}: either none of the slices shown (z {number_ranges(shown)}) holds it, or no "
                "other slice with truth is left to be scored; choose other numbers by "
                "--set 'study_networks.slices=[...]', choose at random by --set study_networks.choice=random, or "
                "study other classes"
            )
    return chosen


def _even(slices: Sequence[int], n: int) -> tuple[int, ...]:
    places = np.linspace(0, len(slices) - 1, n) if n > 1 else [(len(slices) - 1) / 2]
    return tuple(slices[round(place)] for place in places)


def _draw(pool: Pool, numbers: Sequence[int], generator: np.random.Generator) -> list[int]:
    """Return the slices in an order of which each beginning serves, if there is one; else in the last one tried."""
    order: list[int] = []
    for _ in range(_TRIES):
        order = [int(z) for z in generator.permutation(pool.slices)]
        if not any(pool.lacking(order[:n]) for n in numbers):
            break
    return order
