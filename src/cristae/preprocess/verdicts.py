"""What is wrong with a stack: each fault with its measure and its bar.

A slice is set against its neighbours and the spread of the whole stack (`cristae.preprocess.spread`), with a floor
below which nothing is worth a word; so an ordinary stack, however lively, raises no alarm. One cause gives one finding:
a slice out of focus has less contrast too, and is named for the focus only.

Faults that need the neighbours in order are looked for last, among slices that are good in themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cristae.preprocess.order import gaps, nothing_in_common, ruler, shuffled, strangers, unlike
from cristae.preprocess.scale import spacing_px
from cristae.preprocess.spread import outlying, remainders, spread_of, steps
from cristae.preprocess.stack import KINDS, Finding, Stack
from cristae.preprocess.wording import ADVICE, WORDS

THRESHOLD = 5.0
"""How many robust standard deviations off its neighbours a slice must be to be reported."""
BRIGHTNESS_FLOOR = 0.036
"""Smallest spread of brightness that is believed in, in units of the contrast."""
CONTRAST_FLOOR = 0.03
"""The same of the logarithm of the contrast."""
STRIPES_FLOOR = 0.036
"""The same of the strength of stripes, in units of the contrast."""
SHARPNESS_FLOOR = 0.09
"""The same of the logarithm of the sharpness."""
SHIFT_FLOOR = 0.42
"""The same of a shift, in reduced pixels."""
CLIPPED = 0.01
"""Share of clipped pixels from which on a slice is saturated."""
PADDED = 0.005
"""Share of padding from which on it is reported."""
COPIED = 0.97
"""Correlation of fine detail above which two slices are one picture."""
CHARGED = 0.7
"""How far off its neighbours a blown-out block is at least, in units of the contrast."""
CHARGED_FLOOR = 0.06
"""Smallest spread of the brightest blocks that is believed in, in units of the contrast."""
CHARGED_BLOCKS = 3
"""Connected blown-out blocks that make a halo."""
STRIPED = 0.15
"""Strength of stripes, in units of the contrast, from which on a whole stack is curtained."""
DRIFTING = 1.0
"""Pixels per slice from which on a stack drifts."""
THICKNESS = 2.5
"""How many times thicker or thinner than stated slices seem, if the voxel size is doubted."""
_BLIND = 0.3
"""Slices so small that any two are that alike are not judged by their order."""
_RELIABLE = 0.15
"""Likeness from which on the shift of two slices is believed."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is wrong with a stack.

    Parameters
    ----------
    findings
        The worst kinds first.
    scores
        Per kind float64 ``(n,)``: how bad each slice is; 1 and above is reported, 0 is good.
    lags
        Likeness of slices at lag 1, 2...; see `cristae.preprocess.order.ruler`.
    spacing_px
        How far apart slices seem to be in pixels; NaN where that cannot be told.
    """

    findings: tuple[Finding, ...]
    scores: Mapping[str, np.ndarray]
    lags: np.ndarray
    spacing_px: float

    def flags(self, z: int) -> tuple[str, ...]:
        """Return the kinds of fault of a slice, the worst first."""
        return tuple(kind for kind in KINDS if kind in self.scores and self.scores[kind][z] >= 1)


def judge(stack: Stack, anisotropy: float | None = None, threshold: float = THRESHOLD) -> Verdict:
    """Say what is wrong with a stack.

    Parameters
    ----------
    stack
        Its measures.
    anisotropy
        Stated thickness of a slice over the side of a pixel; None does not judge it.
    threshold
        How many robust standard deviations are unusual; lower finds more, and more that is no fault.
    """
    findings: list[Finding] = []
    scores = {kind: np.zeros(len(stack)) for kind in KINDS if kind not in ("drift", "voxel_size")}
    scores["missing"], scores["padding"] = missing(stack), padded(stack)
    scores["duplicated"] = duplicated(stack)
    copies = scores["duplicated"] >= 1
    # A copy of a good slice is good in itself, but says nothing of the slices around it.
    good = stack.usable & ~copies
    scores["curtaining"] = curtaining(stack, good, threshold)
    striped = scores["curtaining"] >= 1
    scores["charging"] = charging(stack, good, striped, threshold)
    charged = scores["charging"] >= 1
    scores["saturated"] = saturated(stack) * ~charged
    clipped = scores["saturated"] >= 1
    scores["out_of_focus"] = out_of_focus(stack, good, threshold) * ~(charged | striped)
    blurred = scores["out_of_focus"] >= 1
    changed, level_steps = brightness(stack, good, threshold)
    scores["brightness"] = changed * ~(charged | clipped | striped)
    changed, contrast_steps = contrast(stack, good, threshold)
    scores["contrast"] = changed * ~(charged | clipped | striped | blurred)
    sound = good & ~charged & ~blurred & ~striped
    lags = ruler(stack.likeness, sound)
    findings += _order(stack, sound, lags, threshold, scores)
    ordered = sound & (scores["shuffled"] < 1)
    moved, places = shifted(stack, ordered, threshold)
    scores["shift"] = moved * (scores["gap"] < 1)
    findings += _shifts(scores["shift"], places)
    findings += [
        *_steps("brightness", level_steps, scores["brightness"], stack),
        *_steps("contrast", contrast_steps, scores["contrast"], stack),
    ]
    findings += _per_kind(stack, scores, {*level_steps, *contrast_steps})
    spacing = spacing_px(stack.own, lags, stack.chance) * stack.factor
    findings += _whole(stack, ordered, spacing, anisotropy)
    findings.sort(key=lambda one: (KINDS.index(one.kind), one.slices))
    return Verdict(tuple(findings), scores, lags, spacing)


def missing(stack: Stack) -> np.ndarray:
    """Score slices of one value throughout that lie between others; those at an end are padding."""
    imaged = np.flatnonzero(~stack.blank)
    inside = np.zeros(len(stack), np.bool_)
    if len(imaged):
        inside[imaged[0] : imaged[-1]] = True
    return np.where(stack.blank & inside, 10.0, 0.0)


def padded(stack: Stack) -> np.ndarray:
    """Score slices of which more than `PADDED` is 0 and connected to the edge."""
    return np.where(missing(stack) > 0, 0.0, stack.padding / PADDED)


def duplicated(stack: Stack) -> np.ndarray:
    """Score slices that are pictures of a slice before: the same pixels, or the same noise.

    Noise differs between two exposures. Where it is the same (`COPIED`, and four times nearer to 1 than is usual in the
    stack) it is one exposure, saved twice.
    """
    usual = np.median(1 - stack.copy[stack.usable]) if stack.usable.any() else 1.0
    near = (stack.copy >= COPIED) & (1 - stack.copy <= 0.25 * usual)
    return np.where(~stack.blank & (near | (stack.same >= 0)), 10.0, 0.0)


def charging(stack: Stack, good: np.ndarray, striped: np.ndarray, threshold: float) -> np.ndarray:
    """Score slices with a bright or dark halo such as their neighbours do not have.

    A slice is suspect if its brightest blocks are brighter than those of its neighbours by `threshold` spreads (or its
    darkest ones darker). Blown out are the blocks beyond what was expected there that are also off all blocks around
    their place in the median of four neighbours by `CHARGED`; `CHARGED_BLOCKS` connected ones are a halo.
    """
    score = np.zeros(len(stack))
    places = np.flatnonzero(good)
    if len(places) < 3 or min(stack.grid.shape[1:]) < 2:
        return score
    # Blur lowers the contrast, in which blocks are counted: without this it would make them shine.
    fainter = np.minimum(1.0, stack.contrast[places] / np.median(stack.contrast[places]))
    grids = stack.grid[places] * fainter[:, None, None]
    for i in np.flatnonzero(striped[places]):  # stripes fill whole rows or columns, a halo does not
        grids[i] -= np.median(grids[i], axis=0, keepdims=True)
        grids[i] -= np.median(grids[i], axis=1, keepdims=True)
    for side in (1, -1):
        extreme = np.full(len(stack), np.nan)
        extreme[places] = np.sort(side * grids.reshape(len(grids), -1), axis=1)[:, -CHARGED_BLOCKS]
        unusual = outlying(extreme, good, CHARGED_FLOOR)
        expected = extreme - remainders(extreme, good & (np.abs(unusual) < threshold))
        for i in np.flatnonzero(unusual[places] > threshold):
            z = places[i]
            blown = (side * grids[i] > expected[z]) & (side * _off_neighbours(grids, int(i)) > CHARGED)
            parts, n = ndimage.label(blown)
            if n:
                score[z] = max(score[z], np.bincount(parts.ravel())[1:].max() / CHARGED_BLOCKS)
    return score


def curtaining(stack: Stack, good: np.ndarray, threshold: float) -> np.ndarray:
    """Score slices whose stripes, vertical or horizontal, are stronger than those of their neighbours."""
    vertical = outlying(stack.stripes, good, STRIPES_FLOOR)
    level = outlying(stack.rows, good, STRIPES_FLOOR)
    return np.where(stack.blank, 0, np.maximum(0, np.maximum(vertical, level)) / threshold)


def saturated(stack: Stack) -> np.ndarray:
    """Score slices of which more than `CLIPPED` is heaped up at an end of the histogram."""
    return np.maximum(stack.dark, stack.bright) / CLIPPED


def out_of_focus(stack: Stack, good: np.ndarray, threshold: float) -> np.ndarray:
    """Score slices whose fine structures are fainter, against the coarse ones, than in their neighbours.

    Where somebody focused anew all that follows is sharper: a step, not a fault.
    """
    breaks = tuple(steps(stack.sharpness, good, SHARPNESS_FLOOR, threshold))
    blur = -outlying(stack.sharpness, good, SHARPNESS_FLOOR, breaks) / threshold
    return np.where(stack.blank, 0, np.maximum(0, blur))


def brightness(stack: Stack, good: np.ndarray, threshold: float) -> tuple[np.ndarray, dict[int, float]]:
    """Score slices that are brighter or darker than their neighbours; also return steps in units of the contrast."""
    unit = float(np.median(stack.contrast[good])) if good.any() else 1.0
    return _level(stack, stack.brightness / unit, good, BRIGHTNESS_FLOOR, threshold)


def contrast(stack: Stack, good: np.ndarray, threshold: float) -> tuple[np.ndarray, dict[int, float]]:
    """Score slices with more or less contrast than their neighbours; also return steps of its natural logarithm."""
    return _level(stack, np.log(stack.contrast), good, CONTRAST_FLOOR, threshold)


def shifted(stack: Stack, good: np.ndarray, threshold: float) -> tuple[np.ndarray, dict[int, tuple[float, float]]]:
    """Score slices that lie beside their neighbours, or from which on all do.

    The shift from slice to slice is set against that of the neighbours. One slice alone gives two jumps, there and
    back, and is named once. Returned with it: how far, along y and x in pixels, by slice.
    """
    n, score = len(stack), np.zeros(len(stack))
    believed = np.zeros(n, np.bool_)
    believed[1:] = good[1:] & good[:-1] & (stack.likeness[1:, 0] > max(_RELIABLE, 2 * stack.chance))
    off = np.stack([remainders(np.where(believed, stack.shift[:, k], np.nan), believed) for k in range(2)], axis=1)
    off = np.nan_to_num(off)
    scale = [max(spread_of(off[believed, k]), SHIFT_FLOOR * stack.factor) for k in range(2)]
    jump = np.abs(off / scale).max(axis=1) / threshold
    found: dict[int, tuple[float, float]] = {}
    z = 1
    while z < n:
        if jump[z] >= 1:
            back = z + 1 < n and np.linalg.norm(off[z] + off[z + 1]) < 0.4 * np.linalg.norm(off[z])
            first = z == 1 and not back and n > 2  # the first slice lies beside all others
            place = 0 if first else z
            score[place] = jump[z]
            sign = -1 if first else 1
            found[place] = (sign * float(off[z, 0]), sign * float(off[z, 1]))
            z += int(back)
        z += 1
    return score, found


def _level(
    stack: Stack, values: np.ndarray, good: np.ndarray, floor: float, threshold: float
) -> tuple[np.ndarray, dict[int, float]]:
    breaks = steps(values, good, floor, threshold)
    score = np.abs(outlying(values, good, floor, tuple(breaks))) / threshold
    score = np.where(stack.blank, 0, score)
    for z, step in breaks.items():
        score[z] = max(score[z], abs(step) / (floor * threshold), 1.0)
    return score, breaks


def _off_neighbours(grids: np.ndarray, i: int) -> np.ndarray:
    near = [k for k in range(max(0, i - 2), min(len(grids), i + 3)) if k != i]
    usual = np.median(grids[near], axis=0)
    above, below = grids[i] - ndimage.maximum_filter(usual, 3), grids[i] - ndimage.minimum_filter(usual, 3)
    return np.maximum(above, 0) + np.minimum(below, 0)


def _order(
    stack: Stack, sound: np.ndarray, lags: np.ndarray, threshold: float, scores: dict[str, np.ndarray]
) -> list[Finding]:
    """Enter slices out of order and gaps into the scores, and return what is to be said of them one by one."""
    findings = []
    n_pairs = int((sound[1:] & sound[:-1]).sum())
    if stack.chance > _BLIND or n_pairs < 2:
        return []
    if unlike(lags, stack.chance):
        words = f"neighbouring slices have nothing in common (likeness {lags[0]:.2f})"
        return [Finding("gap", (), 2.0, words, ADVICE["strangers"])]
    for group, gain in shuffled(stack.likeness, sound, lags):
        scores["shuffled"][list(group)] = np.maximum(scores["shuffled"][list(group)], max(1.0, gain))
        words = f"these slices stand in another order than they were cut in: {', '.join(map(str, group))} is right"
        findings.append(Finding("shuffled", tuple(sorted(group)), max(1.0, gain), words, ADVICE["shuffled"]))
    rest = sound & (scores["shuffled"] < 1)
    for one in strangers(stack.likeness, rest, lags, stack.grid, threshold):
        score = one.score / threshold
        scores["shuffled"][one.z] = score
        where = f"looks like slices near {one.beside}" if one.beside is not None else "belongs to none of the others"
        words = f"fits neither neighbour, though these fit each other; it {where}"
        findings.append(Finding("shuffled", (one.z,), score, words, ADVICE["shuffled"]))
    bars = threshold, nothing_in_common(stack.chance)
    settled = np.flatnonzero(~(sound & (scores["shuffled"] < 1)))
    for gap in gaps(stack.likeness, sound, lags, [int(z) for z in settled], bars):
        score = max(1.0, gap.score / threshold)
        scores["gap"][gap.z] = score
        how_many = "many slices are" if gap.n_lost is None else f"about {gap.n_lost} slice{'s are' * (gap.n_lost > 1)}"
        if gap.n_lost == 1:
            how_many = "about 1 slice is"
        words = f"{how_many} lacking between slice {gap.z - 1} and slice {gap.z}"
        findings.append(Finding("gap", (gap.z,), score, words, ADVICE["gap"]))
    return findings


def _shifts(score: np.ndarray, places: Mapping[int, tuple[float, float]]) -> Iterable[Finding]:
    for z, (y, x) in sorted(places.items()):
        if score[z] >= 1:
            words = f"lies {y:+.0f} px along y and {x:+.0f} px along x beside its neighbours"
            yield Finding("shift", (z,), float(score[z]), words, ADVICE["shift"])


def _steps(kind: str, found: Mapping[int, float], score: np.ndarray, stack: Stack) -> Iterable[Finding]:
    for z, step in sorted(found.items()):
        if score[z] < 1:
            continue
        if kind == "brightness":
            words = f"from here on the stack is {'brighter' if step > 0 else 'darker'} by {abs(step):.1f} contrasts"
        else:
            change = 100 * (np.exp(step) - 1)
            words = f"from here on the contrast is {abs(change):.0f} % {'higher' if step > 0 else 'lower'}"
        yield Finding(kind, (z,), float(score[z]), words, ADVICE[kind])


def _per_kind(stack: Stack, scores: Mapping[str, np.ndarray], told: set[int]) -> Iterable[Finding]:
    """Yield one finding for all slices with the same fault, where these are not told one by one."""
    for kind, words in WORDS.items():
        if kind in ("brightness", "contrast"):
            slices = tuple(int(z) for z in np.flatnonzero(scores[kind] >= 1) if z not in told)
        else:
            slices = tuple(int(z) for z in np.flatnonzero(scores[kind] >= 1))
        if slices:
            score = float(scores[kind][list(slices)].max())
            yield Finding(kind, slices, score, words(stack, slices), ADVICE[kind])


def _whole(stack: Stack, good: np.ndarray, spacing: float, anisotropy: float | None) -> Iterable[Finding]:
    """Yield what is wrong with the volume as a whole: stripes everywhere, drift, thickness of slices."""
    if good.any():
        vertical, level = float(np.median(stack.stripes[good])), float(np.median(stack.rows[good]))
        if max(vertical, level) > STRIPED and max(vertical, level) > 2 * min(vertical, level):
            which = "vertical" if vertical > level else "horizontal"
            words = f"{which} stripes run through all slices, {max(vertical, level):.2f} of the contrast"
            yield Finding("curtaining", (), max(vertical, level) / STRIPED, words, ADVICE["curtaining"])
    yield from _drift(stack, good, spacing)
    if anisotropy is not None and np.isfinite(spacing) and spacing > 0:
        ratio = max(spacing / anisotropy, anisotropy / spacing)
        if ratio > THICKNESS:
            words = (
                f"slices look about {spacing:.2g} pixels thick, but the voxel size says {anisotropy:.2g}: "
                f"{ratio:.2g} times {'thicker' if spacing > anisotropy else 'thinner'}"
            )
            yield Finding("voxel_size", (), ratio / THICKNESS, words, ADVICE["voxel_size"])


def _drift(stack: Stack, good: np.ndarray, spacing: float) -> Iterable[Finding]:
    """Yield a steady drift, and slices that jitter against each other.

    Tissue that runs obliquely moves from slice to slice, too, the farther the thicker slices are: what is less than
    half of their `spacing` in pixels is no fault.
    """
    believed = good[1:] & good[:-1] & (stack.likeness[1:, 0] > max(_RELIABLE, 2 * stack.chance))
    shift = stack.shift[1:][believed]
    if len(shift) < 5:
        return
    steady = np.median(shift, axis=0)
    jitter = float(np.median(np.linalg.norm(shift - steady, axis=1)))
    # Three standard errors of the median: what jitters has some median, too.
    bar = max(DRIFTING, 0.5 * spacing) if np.isfinite(spacing) else DRIFTING
    if np.linalg.norm(steady) >= max(bar, 3 * 1.25 * jitter / np.sqrt(len(shift))):
        words = (
            f"the specimen drifts by {steady[0]:+.1f} px along y and {steady[1]:+.1f} px along x per slice, "
            f"{np.linalg.norm(steady) * (len(stack) - 1):.0f} px over the stack"
        )
        yield Finding("drift", (), float(np.linalg.norm(steady)) / bar, words, ADVICE["drift"])
    bar = max(1.5 * bar, stack.factor)
    if jitter >= bar:
        words = f"slices are not aligned: from one to the next they lie about {jitter:.0f} px apart, back and forth"
        yield Finding("drift", (), jitter / bar, words, ADVICE["drift"])
