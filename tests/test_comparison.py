"""Comparison of samples: laws of effect sizes and corrections, what is permuted, and odd columns."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cristae.comparison import (
    BY_OBJECTS,
    Procedure,
    benjamini_hochberg,
    cliffs_delta,
    compare_groups,
    hedges_g,
    holm,
)

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=8).map(np.array)
P_VALUES = st.lists(st.floats(1e-6, 1), min_size=1, max_size=20).map(np.array)
QUICK = Procedure(n_permutations=200)


def objects(seed=0, samples=("A", "B"), n=12, shift=0.0):
    """Return a table of two classes; sample i has `shift` · i more of `size`."""
    generator = np.random.default_rng(seed)
    tables = []
    for place, sample in enumerate(samples):
        size = generator.normal(10 + shift * place, 1, 2 * n)
        size[0] = np.nan
        kinds = ["nucleus"] * n + ["mitochondrion"] * n
        tables.append(
            pd.DataFrame({"sample_id": sample, "class": kinds, "size": size, "round": generator.uniform(0, 1, 2 * n)})
        )
    return pd.concat(tables, ignore_index=True)


def each(samples):
    return {name: [name] for name in samples}


@given(NUMBERS, NUMBERS)
def test_exchanged_groups_flip_the_signs(first, second):
    np.testing.assert_allclose(hedges_g(first, second), -hedges_g(second, first), rtol=1e-12, atol=1e-14)
    assert cliffs_delta(first, second) == -cliffs_delta(second, first)


@given(NUMBERS, NUMBERS)
def test_cliffs_delta_counts_pairs(first, second):
    assert cliffs_delta(first, second) == pytest.approx(np.sign(first[:, None] - second[None]).mean())


@given(NUMBERS, NUMBERS, st.floats(0.5, 1e6), st.floats(-10, 10))
def test_effect_sizes_know_no_unit(first, second, scale, shift):
    turned = hedges_g(first * scale + shift, second * scale + shift)
    np.testing.assert_allclose(turned, hedges_g(first, second), rtol=1e-9, atol=1e-12)
    assert cliffs_delta(np.exp(first), np.exp(second)) == cliffs_delta(first, second)


def test_hedges_g_by_hand():
    # Means 3 and 6, pooled variance (2 + 8) / 4 = 2.5; J(4) = Γ(2) / (√2 Γ(1.5)).
    first, second = np.array([2.0, 3.0, 4.0]), np.array([4.0, 6.0, 8.0])
    correction = math.gamma(2) / (math.sqrt(2) * math.gamma(1.5))
    assert hedges_g(first, second) == pytest.approx(-3 / math.sqrt(2.5) * correction)
    assert pytest.approx(correction, abs=0.003) == 1 - 3 / (4 * 4 - 1), "near the approximation that is in use"


def test_effect_sizes_of_too_little():
    one, two = np.array([1.0]), np.array([1.0, 2.0])
    assert math.isnan(hedges_g(one, two))
    assert math.isnan(hedges_g(np.zeros(0), np.arange(5.0)))
    assert math.isnan(hedges_g(np.ones(3), np.full(3, 2.0)))
    assert hedges_g(np.ones(3), np.ones(2)) == 0
    assert math.isnan(cliffs_delta(np.zeros(0), two))
    assert cliffs_delta(np.ones(3), np.full(3, 2.0)) == -1
    assert math.isfinite(hedges_g(np.array([1e300, 2e300]), np.array([4e300, 5e300])))


@given(P_VALUES)
def test_corrections_are_those_of_scipy_and_of_the_definition(p):
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))
    order = np.argsort(p)
    steps = [min(1.0, max(p[order[k]] * (len(p) - k) for k in range(upto + 1))) for upto in range(len(p))]
    np.testing.assert_allclose(holm(p)[order], steps)
    assert (holm(p) >= p).all()
    assert (holm(p) >= benjamini_hochberg(p) - 1e-12).all()


def test_corrections_pass_over_what_is_missing():
    p = np.array([0.01, np.nan, 0.04])
    np.testing.assert_allclose(holm(p), [0.02, np.nan, 0.04])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, np.nan, 0.04])
    assert len(holm(np.zeros(0))) == 0


def test_a_difference_is_found_where_it_is():
    found = compare_groups(objects(shift=3.0), each("AB"), ["size", "round"]).pairs
    assert list(zip(found["class"], found["feature"], strict=True)) == [
        ("nucleus", "size"),
        ("nucleus", "round"),
        ("mitochondrion", "size"),
        ("mitochondrion", "round"),
    ]
    size = found[found["feature"] == "size"]
    assert (size["higher"] == "B").all()
    assert (size["difference"] < -2).all()
    assert (size["hedges_g"] < -1.5).all()
    assert (size["p_holm"] < 0.01).all()
    assert (found.loc[found["feature"] == "round", "p"] > 0.01).all()
    assert size["n_a"].tolist() == [11, 12], "the missing value is left out"


def test_the_order_of_rows_and_names_of_groups_do_not_matter():
    table = objects(shift=1.0)
    expected = compare_groups(table, each("AB"), ["size", "round"], QUICK).pairs
    mixed = table.sample(frac=1, random_state=4)
    renamed = mixed.replace({"sample_id": {"A": "zebra", "B": "ant"}})
    found = compare_groups(renamed, {"zebra": ["zebra"], "ant": ["ant"]}, ["size", "round"], QUICK).pairs
    names = ["group_a", "group_b", "higher"]
    merged = expected.drop(columns=names).merge(found.drop(columns=names), how="outer", indicator=True)
    assert len(merged) == len(expected), "the same to the last bit"


def test_exchanged_groups_flip_all_signs_and_keep_p():
    table = objects(shift=1.0, samples=("A", "B", "C"))
    keys, signed = ["class", "feature"], ["difference", "hedges_g", "cliffs_delta"]
    one = compare_groups(table, each("AB"), ["size", "round"], QUICK).pairs.set_index(keys)
    other = compare_groups(table, each("BA"), ["size", "round"], QUICK).pairs.set_index(keys)
    np.testing.assert_allclose(one[signed], -other[signed])
    assert (one[["p", "p_holm", "p_bh", "higher"]] == other[["p", "p_holm", "p_bh", "higher"]]).all(axis=None)


def test_three_groups_are_compared_pair_by_pair_and_together():
    table = objects(samples=("A", "B", "C"), shift=2.0)
    found = compare_groups(table, each("ABC"), ["size", "round"], QUICK)
    assert len(found.pairs) == 2 * 2 * 3
    assert len(found.overall) == 2 * 2
    size = found.overall[found.overall["feature"] == "size"]
    assert (size["p"] == 1 / 201).all()
    assert (found.overall["n_groups"] == 3).all()
    assert compare_groups(table, each("AB"), ["size"], QUICK).overall.empty
    by_ranks = compare_groups(table, each("ABC"), ["size"], Procedure("median", n_permutations=200)).overall
    assert (by_ranks["test"] == "Kruskal-Wallis").all()


def test_samples_are_permuted_where_there_are_enough():
    names = [f"s{place}" for place in range(8)]
    table = objects(samples=names, n=5)
    table.loc[table["sample_id"].isin(names[4:]), "size"] += 50
    found = compare_groups(table, {"old": names[:4], "new": names[4:]}, ["size"])
    assert (found.pairs["level"] == "samples").all()
    assert not found.pairs["exploratory"].any()
    assert found.pairs["p"].tolist() == pytest.approx([2 / 70, 2 / 70])
    assert (found.pairs[["n_a", "n_b"]] == 4).all(axis=None)
    assert found.pairs["n_objects_a"].tolist() == [16, 20]
    means = table[table["class"] == "mitochondrion"].groupby("sample_id")["size"].mean()
    assert found.pairs["mean_a"].iloc[1] == pytest.approx(means[names[:4]].mean())
    assert BY_OBJECTS not in found.notes


def test_too_few_samples_make_it_exploratory():
    names = list("ABCDEF")
    groups = {"old": names[:3], "new": names[3:]}
    found = compare_groups(objects(samples=names), groups, ["size"], QUICK)
    assert (found.pairs["level"] == "objects").all()
    assert found.pairs["exploratory"].all()
    assert BY_OBJECTS in found.notes
    asked = compare_groups(objects(samples=names), groups, ["size"], Procedure(level="samples"))
    assert (asked.pairs["p"] >= 0.1).all(), "which is the smallest that three against three can have"


def test_samples_alike_inside_do_not_pass_for_many_replicates():
    """Objects that only differ from sample to sample: permuting objects finds what is not there."""
    generator = np.random.default_rng(2)
    names = [f"s{place}" for place in range(8)]
    false = {"objects": 0, "samples": 0}
    for _ in range(20):
        levels = generator.normal(0, 1, 8)
        sizes = np.repeat(levels, 15) + generator.normal(0, 0.1, 120)
        table = pd.DataFrame({"sample_id": np.repeat(names, 15), "class": "nucleus", "size": sizes})
        for level in false:
            how = Procedure(level=level, n_permutations=99)
            p = compare_groups(table, {"old": names[:4], "new": names[4:]}, ["size"], how).pairs["p"].iloc[0]
            false[level] += p <= 0.05
    assert false["objects"] >= 10
    assert false["samples"] <= 4


def test_odd_columns_have_defined_results():
    table = objects(n=6)
    table["constant"] = 3.0
    table["flag"] = table["round"] > 0.5
    table["nothing"] = np.nan
    table["only_b"] = table["size"].where(table["sample_id"] == "B")
    table["steps"] = np.where(table["sample_id"] == "B", 2.0, 1.0)
    found = compare_groups(table, each("AB"), ["constant", "flag", "nothing", "only_b", "steps"]).pairs
    rows = found[found["class"] == "nucleus"].set_index("feature")
    assert list(rows.index) == ["constant", "flag", "only_b", "steps"]
    assert (rows.loc["constant", ["p", "hedges_g", "cliffs_delta", "sd_a"]] == [1, 0, 0, 0]).all()
    assert rows.loc["constant", "higher"] == ""
    assert math.isnan(rows.loc["only_b", "p"])
    assert rows.loc["only_b", "note"] == "no values in A"
    assert math.isnan(rows.loc["steps", "hedges_g"])
    assert rows.loc["steps", "cliffs_delta"] == -1
    assert rows.loc["steps", "p"] < 0.01


def test_equal_means_are_equal_whatever_rounding_makes_of_them():
    table = pd.DataFrame({"sample_id": list("AAABBBBBB"), "class": "nucleus", "size": [0.1, 0.2, 0.3] * 3})
    row = compare_groups(table, each("AB"), ["size"]).pairs.iloc[0]
    assert (row["difference"], row["higher"], row["p"]) == (0, "", 1)


def test_one_object_each():
    found = compare_groups(objects(n=1), each("AB"), ["round"])
    assert (found.pairs["p"] == 1).all()
    assert found.pairs["sd_a"].isna().all()
    assert (found.pairs["note"] == "one value only in A and B").all()


def test_a_class_that_one_group_lacks_is_named():
    table = objects()
    table = table[(table["sample_id"] == "A") | (table["class"] == "nucleus")]
    found = compare_groups(table, each("AB"), ["size"], QUICK)
    assert "mitochondrion: no objects in B." in found.notes
    assert found.pairs.set_index("class").loc["mitochondrion", "note"] == "no values in B"
    assert found.groups.query("`class` == 'mitochondrion' and group == 'B'")["n_objects"].item() == 0


def test_what_no_correction_can_reach_is_told():
    few = Procedure(n_permutations=50)
    notes = compare_groups(objects(), each("AB"), ["size", "round"], few).notes
    assert any("no p can be below 0.02" in note and "more permutations, at least 80" in note for note in notes)
    names = [f"s{place}" for place in range(8)]
    notes = compare_groups(objects(samples=names), {"a": names[:4], "b": names[4:]}, ["size"]).notes
    assert any("no p can be below 0.029" in note and "more samples or objects" in note for note in notes)
    assert not any("cannot reach" in note for note in compare_groups(objects(), each("AB"), ["size"]).notes)


def test_an_empty_table_has_no_rows():
    found = compare_groups(objects().iloc[:0], each("AB"), ["size"])
    assert found.pairs.empty
    assert found.groups.empty


@pytest.mark.parametrize(
    ("groups", "features", "words"),
    [
        ({"A": ["A"]}, ["size"], "two groups"),
        ({"A": ["A"], "B": []}, ["size"], "none in B"),
        ({"A": ["A"], "B": ["B", "A"]}, ["size"], "found A in several"),
        ({"A": ["A"], "B": ["B"]}, ["weight"], "no column weight"),
    ],
)
def test_bad_input_is_refused(groups, features, words):
    with pytest.raises(ValueError, match=words):
        compare_groups(objects(), groups, features)
