"""`cristae check` on faults that were put in on purpose: how many are found, and how often it cries wolf.

Every kind of fault, one at a time, at several strengths and places of several phantoms without faults, and in the
FIB-SEM stack of the fly. Found means: named by its kind, with exactly the slices that are wrong. Strength 1 is what a
microscopist sees at once, 0.5 what one sees when looking for it; see `cristae.phantom.faults`. False alarms are
findings beside the one that was put in, and any on stacks as they are. There is no peer that names faults of a stack;
the time is set against a phase correlation of scikit-image between neighbours, which is the least that a check must do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import numpy as np
import tifffile
from skimage.registration import phase_cross_correlation

from benchmarks.result import Result
from benchmarks.sets import data_folder
from cristae.geometry import Box
from cristae.phantom import PhantomSettings, build_scene, image
from cristae.phantom.faults import FAULTS
from cristae.preprocess.inspect import LAGS, Fit, Look, fit, look
from cristae.preprocess.stack import Stack, stack_of, table_of
from cristae.preprocess.verdicts import Verdict, judge

STRENGTHS = (0.35, 0.5, 1.0)
SHAPE = (48, 320, 320)
CLEAN = {"brightness_jump": 0.0, "curtaining": 0.0, "charging": 0.0}
REAL: Mapping[str, tuple[float | None, int]] = {
    "flyem_medulla/raw.tif": (1.0, 0),
    "gala_fibsem/train/raw.tif": (1.0, 0),
    "gala_fibsem/test/raw.tif": (1.0, 0),
    "vnc_sstem/raw.tif": (45 / 4.6, 0),
    "wsu_chloroplast/raw.tif": (None, 0),
    "hela_mito/raw.tif": (5.0, 1),
    "hela_mito/raw_unlabelled.tif": (10.0, 1),
}
"""Anisotropy of real stacks, and how many findings on them are true (both of hela_mito: selected slices)."""
_WHERE: Mapping[str, Callable[[int], tuple[int, ...]]] = {"shuffled": lambda z: (z, z + 1), "drift": lambda z: ()}


def run(quick: bool) -> Result:
    """Put in every fault, and count."""
    seeds = (0,) if quick else (0, 1, 2)
    strengths = (1.0,) if quick else STRENGTHS
    found, tried, wolves = Counter[tuple[str, float]](), Counter[tuple[str, float]](), 0
    stacks = [_phantom(seed, quick) for seed in seeds]
    real = tifffile.imread(data_folder() / "flyem_medulla" / "raw.tif")
    stacks.append(real[:48])
    clean_alarms = 0
    for number, stack in enumerate(stacks):
        inspect = _Inspector()
        clean_alarms += len(judge(inspect(stack), 1.0).findings)
        for kind, strength, z in _faults(strengths, len(stack), number, quick):
            spoilt = FAULTS[kind](stack, z, strength, np.random.default_rng([number, z]))
            hit, others = _compare(judge(inspect(spoilt), 1.0), kind, z)
            tried[kind, strength] += 1
            found[kind, strength] += hit
            wolves += others
    share = {
        kind: {f"{strength:g}": round(found[kind, strength] / tried[kind, strength], 3) for strength in strengths}
        for kind in FAULTS
    }
    full = sum(found[kind, 1.0] for kind in FAULTS) / sum(tried[kind, 1.0] for kind in FAULTS)
    alarms = {name: _findings(name, anisotropy) for name, (anisotropy, _) in REAL.items()}
    false = clean_alarms + sum(max(0, alarms[name] - true) for name, (_, true) in REAL.items())
    ours, least = _pace(real)
    return Result(
        "check_artefacts",
        round(full, 4),
        "share of faults of strength 1 that are named at exactly their slices",
        "≥ 0.95, and no false alarm on clean stacks",
        full >= 0.95 and false == 0,
        None,
        None,
        seeds=seeds,
        split=f"{sum(tried.values())} faults in {len(stacks)} stacks",
        details={
            "found_by_kind_and_strength": share,
            "false_alarms_on_clean_stacks": false,
            "clean_stacks": len(stacks) + len(REAL),
            "findings_on_real_stacks": alarms,
            "other_findings_beside_the_fault": wolves,
            "slices_per_s_2048": round(ours, 2),
            "slices_per_s_phase_correlation": round(least, 2),
        },
    )


def _phantom(seed: int, quick: bool) -> np.ndarray:
    shape = (32, 192, 192) if quick else SHAPE
    return image(build_scene(PhantomSettings(shape=shape, seed=seed, **CLEAN)), Box((0, 0, 0), shape))


def _faults(strengths: tuple[float, ...], depth: int, number: int, quick: bool) -> Iterator[tuple[str, float, int]]:
    rng = np.random.default_rng(number)
    places = rng.choice(np.arange(4, depth - 5), 2 if quick else 6, replace=False)
    for kind in FAULTS:
        for strength in strengths:
            for z in places:
                yield kind, strength, int(z)


def _compare(verdict: Verdict, kind: str, z: int) -> tuple[bool, int]:
    """Return whether a fault was named, and how many other findings there are."""
    wanted = (kind, _WHERE.get(kind, lambda z: (z,))(z))
    told = [(one.kind, one.slices) for one in verdict.findings]
    return wanted in told, len(told) - (wanted in told)


def _findings(name: str, anisotropy: float | None) -> int:
    return len(judge(_Inspector()(tifffile.imread(data_folder() / name)), anisotropy).findings)


class _Inspector:
    """Measures stacks; what was measured before is not measured again."""

    def __init__(self) -> None:
        self.looks: dict[bytes, Look] = {}
        self.fits: dict[tuple[bytes, ...], Fit] = {}

    def __call__(self, stack: np.ndarray) -> Stack:
        keys = [plane.tobytes() for plane in stack]
        for key, plane in zip(keys, stack, strict=True):
            if key not in self.looks:
                self.looks[key] = look(plane)
        looks = [self.looks[key] for key in keys]
        fits = []
        for z, this in enumerate(looks):
            row = tuple(one.digest for one in looks[max(0, z - LAGS) : z + 1])
            if row not in self.fits:
                self.fits[row] = fit(this, looks[max(0, z - LAGS) : z][::-1])
            fits.append(self.fits[row])
        return stack_of([table_of(looks, fits)])


def _pace(stack: np.ndarray) -> tuple[float, float]:
    """Return slices of 2048 × 2048 per second: ours, and phase correlation alone."""
    wide = [np.tile(plane, (9, 9))[:2048, :2048].copy() for plane in stack[:8]]
    begun, before = time.perf_counter(), list[Look]()
    for plane in wide:
        this = look(plane)
        fit(this, before)
        before = [this, *before][:LAGS]
    ours = len(wide) / (time.perf_counter() - begun)
    begun = time.perf_counter()
    for one, other in pairwise(wide[:3]):
        phase_cross_correlation(one, other, upsample_factor=10)
    return ours, 2 / (time.perf_counter() - begun)
