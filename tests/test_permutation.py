"""Permutation tests against full enumeration and SciPy, their p under exchangeable groups, and what must not matter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cristae import permutation
from cristae.permutation import arrangements, n_arrangements, permutation_test, permutation_tests, smallest_p

VALUES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=5)
STATISTICS = ("mean", "median")


def by_hand(first, second, statistic):
    """Deal out all values in all ways, with exact sums of small whole numbers."""
    of = np.mean if statistic == "mean" else np.median
    pooled = np.concatenate([first, second])
    observed, found = abs(of(first) - of(second)), []
    for chosen in itertools.combinations(range(len(pooled)), len(first)):
        rest = np.delete(pooled, chosen)
        found.append(abs(of(pooled[list(chosen)]) - of(rest)) >= observed - 1e-9)
    return np.mean(found)


@given(VALUES, VALUES, st.sampled_from(STATISTICS))
def test_few_values_give_the_p_of_full_enumeration(first, second, statistic):
    found = permutation_test([np.array(first), np.array(second)], statistic=statistic)
    assert found.exact
    assert found.p == pytest.approx(by_hand(np.array(first), np.array(second), statistic))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_scipy_finds_the_same(statistic):
    generator = np.random.default_rng(3)
    first, second = generator.normal(0, 1, 6), generator.normal(0.8, 1, 7)
    of = np.mean if statistic == "mean" else np.median
    theirs = stats.permutation_test(
        (first, second), lambda a, b, axis: np.abs(of(a, axis) - of(b, axis)), vectorized=True, alternative="greater"
    )
    assert permutation_test([first, second], statistic=statistic).p == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_several_groups_against_scipy(statistic):
    generator = np.random.default_rng(4)
    groups = [generator.normal(shift, 1, 3) for shift in (0.0, 1.0, 1.5)]
    test = stats.f_oneway if statistic == "mean" else stats.kruskal
    pooled, observed, found = np.concatenate(groups), test(*groups).statistic, []
    for dealt in set(itertools.permutations([0, 0, 0, 1, 1, 1, 2, 2, 2])):
        parts = [pooled[np.array(dealt) == group] for group in range(3)]
        found.append(test(*parts).statistic >= observed * (1 - 1e-9))
    result = permutation_test(groups, statistic=statistic)
    assert (result.exact, result.n_arrangements) == (True, 1680)
    assert result.p == pytest.approx(np.mean(found))


@pytest.mark.parametrize(("statistic", "n_groups"), [("mean", 2), ("median", 2), ("mean", 3), ("median", 3)])
def test_exchangeable_groups_have_uniform_p(statistic, n_groups):
    generator = np.random.default_rng(11)
    cases = [np.split(generator.exponential(1, 12 * n_groups), n_groups) for _ in range(500)]
    p = np.array([one.p for one in permutation_tests(cases, statistic=statistic, n_permutations=399)])
    # Medians take few values: their p is not below what chance would have it, and may be above.
    alternative = "two-sided" if statistic == "mean" else "greater"
    assert stats.kstest(p, "uniform", alternative=alternative).pvalue > 0.001
    assert np.mean(p <= 0.05) < 0.09
    assert np.mean(p <= 0.2) > 0.13


def test_a_difference_is_found_and_p_is_never_0():
    generator = np.random.default_rng(0)
    found = permutation_test([generator.normal(0, 1, 40), generator.normal(9, 1, 40)], n_permutations=999)
    assert found == permutation.PermutationResult(1 / 1000, False, 999)


@given(st.data(), st.sampled_from(STATISTICS), st.integers(2, 3))
def test_order_of_values_and_groups_scale_and_company_do_not_matter(data, statistic, n_groups):
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    groups = [generator.normal(0, 1, data.draw(st.integers(1, 9))) for _ in range(n_groups)]
    how = {"statistic": statistic, "n_permutations": 60}
    expected = permutation_test(groups, **how)
    turned = [generator.permutation(group) * 1e6 + 5 for group in data.draw(st.permutations(groups))]
    company = [[generator.normal(0, 1, len(group)) for group in groups] for _ in range(2)]
    found = permutation_tests([company[0], turned, company[1]], **how)[1]
    assert found == expected


def test_values_in_memory_at_once_do_not_matter(monkeypatch):
    generator = np.random.default_rng(1)
    groups = [generator.normal(0, 1, 30), generator.normal(0.3, 1, 20), generator.normal(0, 2, 25)]
    few = [group[:3] for group in groups]
    expected = [permutation_test(some[:n], n_permutations=2000) for n in (2, 3) for some in (groups, few)]
    monkeypatch.setattr(permutation, "_CHUNK", 1300)
    assert [permutation_test(some[:n], n_permutations=2000) for n in (2, 3) for some in (groups, few)] == expected


@given(st.lists(st.integers(1, 3), min_size=2, max_size=4))
def test_all_arrangements_are_there_once(sizes):
    total = n_arrangements(sizes)
    found = np.concatenate(list(arrangements(sizes, total, 0)))
    assert found.shape == (total, sum(sizes))
    assert len(np.unique(found, axis=0)) == total
    for group, size in enumerate(sizes):
        assert ((found == group).sum(axis=1) == size).all()


@given(st.lists(st.integers(1, 4), min_size=2, max_size=2))
def test_the_smallest_p_is_reached_by_groups_far_apart(sizes):
    first, second = np.arange(sizes[0]), 100.0 + np.arange(sizes[1])
    assert permutation_test([first, second]).p == pytest.approx(smallest_p(sizes))


def test_known_smallest_p():
    assert smallest_p([3, 3]) == pytest.approx(2 / 20)
    assert smallest_p([4, 4]) == pytest.approx(2 / 70)
    assert smallest_p([1, 1]) == 1
    assert math.isnan(smallest_p([0, 4]))


def test_what_cannot_be_tested_has_a_defined_result():
    some, none = np.array([1.0, 2.0, np.nan, np.inf]), np.array([np.nan])
    assert math.isnan(permutation_test([some, none]).p)
    assert permutation_test([np.ones(50), np.ones(70)]).p == 1
    assert permutation_test([np.array([1.0]), np.array([5.0])]).p == 1
    assert permutation_test([some, np.array([1.0, 2.0])]).p == 1
    huge = np.array([1e300, 2e300, 1.5e300])
    assert permutation_test([huge, -huge]).p == pytest.approx(0.1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="two groups"):
        permutation_test([np.ones(3)])
    with pytest.raises(ValueError, match="at least 1 permutation"):
        permutation_test([np.ones(3), np.ones(2)], n_permutations=0)
    with pytest.raises(ValueError, match="mean or median"):
        permutation_test([np.ones(3), np.ones(2)], statistic="mode")
