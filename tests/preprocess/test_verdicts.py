"""Every fault is named at its slice and nowhere else, and what is no fault is not named."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tifffile
from faulty_stacks import CLEAN, Inspector, render
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.phantom import faults
from cristae.phantom.faults import FAULTS
from cristae.preprocess.stack import KINDS, SEVERE
from cristae.preprocess.verdicts import judge

PLACES = (9, 20, 25)
EXPECTED = {"shuffled": lambda z: (z, z + 1), "drift": lambda z: ()}


def told(found) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.kind, one.slices) for one in found.findings]


def test_a_clean_phantom_raises_no_alarm(clean, verdict) -> None:
    assert told(verdict(clean)) == []


@pytest.mark.parametrize("z", PLACES)
@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_found_at_its_slice_and_nothing_else(clean, verdict, kind, z) -> None:
    spoilt = FAULTS[kind](clean, z, 1.0, np.random.default_rng(z))
    found = verdict(spoilt)
    where = EXPECTED.get(kind, lambda z: (z,))(z)
    assert told(found) == [(kind, where)]
    assert found.findings[0].score >= 1 and found.findings[0].words and found.findings[0].advice
    if where:
        assert all(found.flags(at) == ((kind,) if at in where else ()) for at in range(len(spoilt)))


@pytest.mark.parametrize("kind", ["missing", "duplicated", "shuffled", "out_of_focus", "padding", "shift"])
def test_half_the_fault_is_found_too(clean, verdict, kind) -> None:
    found = verdict(FAULTS[kind](clean, 20, 0.5, np.random.default_rng(1)))
    assert told(found) == [(kind, EXPECTED.get(kind, lambda z: (z,))(20))]


def test_faults_that_come_together_are_told_apart(clean, verdict) -> None:
    rng = np.random.default_rng(0)
    stack, z = clean, 3
    wanted = {}
    for kind in ("out_of_focus", "charging", "curtaining", "brightness", "missing", "duplicated", "shift"):
        stack = FAULTS[kind](stack, z, 1.0, rng)
        wanted[kind] = (z,)
        z += 4
    assert dict(told(verdict(stack))) == wanted


def test_several_slices_with_one_fault_are_one_finding(clean, verdict) -> None:
    stack = clean
    for z in (5, 12, 13, 27):
        stack = FAULTS["out_of_focus"](stack, z, 1.0, np.random.default_rng(z))
    assert told(verdict(stack)) == [("out_of_focus", (5, 12, 13, 27))]


def test_where_the_level_changes_for_good_is_one_finding(clean, verdict) -> None:
    stack = clean.copy()
    stack[18:] = np.clip(stack[18:].astype(int) + 25, 0, 255)
    found = verdict(stack)
    assert told(found) == [("brightness", (18,))]
    assert "brighter" in found.findings[0].words


def test_slices_swapped_over_a_distance_are_both_found(clean, verdict) -> None:
    found = verdict(faults.swapped(clean, 10, 24))
    assert [one.kind for one in found.findings] == ["shuffled", "shuffled"]
    assert [one.slices for one in found.findings] == [(10,), (24,)]


def test_a_reversed_run_is_put_in_order(clean, verdict) -> None:
    stack = clean.copy()
    stack[14:18] = clean[14:18][::-1]
    assert set().union(*(one.slices for one in verdict(stack).findings)) == {14, 15, 16, 17}
    assert {one.kind for one in verdict(stack).findings} == {"shuffled"}


def test_a_jump_of_the_stage_is_told_once(clean, verdict) -> None:
    stack = np.concatenate([clean[:15], [faults.moved(plane, 9, -6) for plane in clean[15:]]])
    found = verdict(stack)
    assert told(found) == [("shift", (15,))]
    assert "+9 px along y and -6 px along x" in found.findings[0].words


def test_the_first_and_the_last_slice_can_be_wrong(clean, verdict) -> None:
    for z in (0, len(clean) - 1):
        for kind in ("out_of_focus", "brightness", "padding"):
            assert told(verdict(FAULTS[kind](clean, z, 1.0, np.random.default_rng(z)))) == [(kind, (z,))]


def test_black_slices_at_an_end_are_padding(clean, verdict) -> None:
    stack = clean.copy()
    stack[:2], stack[20] = 0, 0
    assert told(verdict(stack)) == [("missing", (20,)), ("padding", (0, 1))]


def test_no_contrast_counts_as_missing_whatever_its_grey(clean, verdict) -> None:
    stack = clean.copy()
    stack[11] = 130
    assert told(verdict(stack)) == [("missing", (11,))]


def test_brightness_jumps_of_the_phantom_are_found_where_they_are(verdict) -> None:
    stack = render((36, 128, 160), seed=0)
    means = stack.mean(axis=(1, 2))
    jumps = [z for z in range(1, 35) if abs(means[z] - np.median(means[max(0, z - 3) : z + 4])) > 12]
    (one,) = verdict(stack).findings
    assert one.kind == "brightness" and set(jumps) <= set(one.slices)


def test_a_wrong_voxel_size_is_doubted(clean, verdict) -> None:
    assert told(verdict(clean, 5.0)) == [("voxel_size", ())]
    assert told(verdict(clean, 1.6)) == []
    thick = render((20, 224, 224), seed=1, voxel_size=(40.0, 8.0, 8.0), **CLEAN)
    assert told(verdict(thick, 5.0)) == []
    assert told(verdict(thick, 1.0)) == [("voxel_size", ())]
    assert "thicker" in verdict(thick, 1.0).findings[0].words


def test_stripes_through_all_slices_are_found_too(clean, verdict) -> None:
    stack = clean
    for z in range(len(clean)):
        stack = FAULTS["curtaining"](stack, z, 0.6, np.random.default_rng(z))
    assert ("curtaining", ()) in told(verdict(stack))


def test_slices_that_have_nothing_in_common_are_called_so(clean, verdict) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 128, 128)).astype(np.uint8)
    found = verdict(noise)
    assert [(one.kind, one.slices) for one in found.findings] == [("gap", ())]


def test_grey_values_may_be_of_16_bits_and_turned_over(clean, verdict) -> None:
    for stack in (clean.astype(np.uint16) * 100 + 300, 255 - clean):
        assert told(verdict(stack)) == []
        spoilt = FAULTS["out_of_focus"](stack, 12, 1.0, np.random.default_rng(0))
        assert told(verdict(spoilt)) == [("out_of_focus", (12,))]


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 64, 64), (3, 40, 300), (4, 9, 7), (5, 1, 1)])
def test_few_and_small_slices_are_no_reason_to_fail(verdict, shape) -> None:
    stack = np.random.default_rng(0).integers(90, 160, shape).astype(np.uint8)
    assert {one.kind for one in verdict(stack).findings} <= {"gap", "missing", "padding", "saturated"}


@given(st.integers(0, 10_000), st.sampled_from(["noise", "sparse", "constant", "same", "gaps"]))
@settings(max_examples=40)
def test_whatever_the_pixels_there_is_a_verdict(seed, kind) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (rng.integers(1, 12), rng.integers(1, 80), rng.integers(1, 80)))
    top = int(rng.choice([2, 5, 256, 65536]))
    stack = rng.integers(0, top, shape).astype(np.uint16 if top > 256 else np.uint8)
    if kind == "sparse":
        stack[rng.random(shape) < 0.9] = 0
    elif kind == "constant":
        stack[:] = rng.integers(0, top)
    elif kind == "same":
        stack[1:] = stack[:1]
    elif kind == "gaps":
        stack[rng.random(shape[0]) < 0.4] = 0
    found = judge(Inspector()(stack), float(rng.choice([0.2, 1, 5])))
    assert all(np.isfinite(scores).all() for scores in found.scores.values())
    for one in found.findings:
        assert one.score >= 1 and one.slices == tuple(sorted(set(one.slices)))
        assert all(0 <= z < shape[0] for z in one.slices)


def test_an_empty_stack_of_zeros_is_padding(verdict) -> None:
    assert told(verdict(np.zeros((4, 32, 32), np.uint8))) == [("padding", (0, 1, 2, 3))]


def test_severity_is_part_of_the_finding(clean, verdict) -> None:
    assert set(KINDS) > SEVERE
    (one,) = verdict(FAULTS["charging"](clean, 8, 1.0, np.random.default_rng(0))).findings
    assert one.severe and one.how_bad in ("mild", "severe")


def test_a_higher_threshold_finds_less(clean, verdict) -> None:
    spoilt = FAULTS["brightness"](clean, 20, 1.0, np.random.default_rng(0))
    low, high = (verdict(spoilt, threshold=value).scores["brightness"][20] for value in (3, 9))
    assert low == pytest.approx(3 * high)


REAL = {
    "flyem_medulla/raw.tif": (1.0, []),
    "gala_fibsem/train/raw.tif": (1.0, []),
    "gala_fibsem/test/raw.tif": (1.0, []),
    "vnc_sstem/raw.tif": (45 / 4.6, []),
    "wsu_chloroplast/raw.tif": (None, []),
    # These are selected slices of a stack of 50 nm: 5 far apart, and 2, 4, 26 and 28.
    "hela_mito/raw.tif": (5.0, [("gap", ())]),
    "hela_mito/raw_unlabelled.tif": (10.0, [("gap", (2,))]),
}


@pytest.mark.parametrize("name", REAL)
def test_real_stacks_raise_no_false_alarm(data_folder, verdict, name) -> None:
    anisotropy, expected = REAL[name]
    assert told(verdict(tifffile.imread(data_folder / name), anisotropy)) == expected


@pytest.mark.parametrize("kind", ["out_of_focus", "shuffled", "duplicated", "missing", "contrast", "padding"])
def test_faults_are_found_in_real_tissue(data_folder, verdict, kind) -> None:
    stack = tifffile.imread(data_folder / "flyem_medulla" / "raw.tif")[:50]
    for z in (8, 31):
        spoilt = FAULTS[kind](stack, z, 1.0, np.random.default_rng(z))
        assert told(verdict(spoilt)) == [(kind, EXPECTED.get(kind, lambda z: (z,))(z))]


def test_scores_are_sorted_by_how_bad_kinds_are(clean, verdict) -> None:
    stack = FAULTS["padding"](FAULTS["charging"](clean, 5, 1.0, np.random.default_rng(0)), 9, 1.0, None)
    places = [KINDS.index(one.kind) for one in verdict(stack).findings]
    assert all(a <= b for a, b in pairwise(places)) and len(places) == 2
