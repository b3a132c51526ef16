from __future__ import annotations

import threading
import time

import pytest

from cristae.errors import UsageError
from cristae.executors import Crew, parse_executor


@pytest.mark.parametrize("executor", ["serial", "threads:1", "threads:3"])
def test_every_task_is_done_once_and_in_order_where_that_is_asked_for(executor):
    crew = Crew(executor)
    assert list(crew.ordered(lambda n: n * n, range(20))) == [n * n for n in range(20)]
    assert sorted(crew.unordered(lambda n: n * n, range(20))) == [n * n for n in range(20)]
    assert list(crew.unordered(lambda n: n, [])) == list(crew.ordered(lambda n: n, [])) == []


def test_no_more_threads_work_than_are_allowed():
    lock, now, most = threading.Lock(), 0, 0

    def work(n):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    list(Crew("threads:4").unordered(work, range(12), at_most=2))
    assert most == 2
    list(Crew("threads:3").unordered(work, range(12), at_most=99))
    assert most == 3


def test_what_is_in_order_is_not_begun_far_ahead():
    begun = []
    ended = Crew("threads:2").ordered(begun.append, range(100))
    next(ended)
    time.sleep(0.05)
    assert len(begun) <= 4
    ended.close()


@pytest.mark.parametrize("executor", ["serial", "threads:2"])
@pytest.mark.parametrize("way", ["ordered", "unordered"])
def test_the_first_error_comes_through_and_ends_the_rest(executor, way):
    begun = []

    def work(n):
        begun.append(n)
        if n == 3:
            raise ValueError("task 3")

    with pytest.raises(ValueError, match="task 3"):
        list(getattr(Crew(executor), way)(work, range(1000)))
    assert len(begun) < 20


def test_how_many_share_the_memory_of_a_process():
    assert Crew().n_together == 1
    assert Crew("threads:5").n_together == 5
    assert Crew("threads:5").alone().n_together == 1
    assert Crew("dask:local:3").alone() == Crew("dask:local:3")


@pytest.mark.parametrize(
    "executor", ["", "dask", "dask:", "dask:node1", "dask:local:0", "dask:local", "threads:0", "threads:x", "threads"]
)
def test_an_unknown_executor_is_refused_with_what_there_is(executor):
    with pytest.raises(UsageError, match=r"threads:4; dask:ADDRESS.*dask:local:N"):
        Crew(executor)


def test_names_of_executors():
    assert parse_executor("dask:tcp://node1:8786") == ("dask", 0)
    assert parse_executor("dask:tls://node1:8786") == ("dask", 0)
    assert parse_executor("dask:local:2") == ("dask", 0)
