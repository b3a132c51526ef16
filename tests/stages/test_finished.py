"""What is there already is not done again, and later stages rest on it."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from cristae.project import Project
from cristae.stages.finished import nothing_to_do
from cristae.stages.options import Options


class Settings(BaseModel):
    n: int


@pytest.fixture
def made(tmp_path):
    project, runs = Project.create(tmp_path / "p", (4.0, 4.0, 4.0)), []
    for n in (1, 2):
        runs.append(project.run("track", Settings(n=n), {}))
        with project.record(runs[-1], Settings(n=n), {}):
            pass
    return project, *runs


def test_a_finished_run_is_told_of_and_becomes_the_one_that_later_stages_take(made):
    project, first, second = made
    assert project.latest("track") == second
    told: list[str] = []
    assert nothing_to_do(project, first, Options(notify=told.append))
    assert project.latest("track") == first
    assert told == [f"track: nothing to do, {first.path.name} is finished (do it again with --force)"]
    assert nothing_to_do(project, first, Options(notify=told.append), "study") and told[1].startswith("study: ")


def test_what_is_forced_or_not_finished_is_to_do(made):
    project, first, second = made
    assert not nothing_to_do(project, first, Options(force=True)) and project.latest("track") == second
    assert not nothing_to_do(project, project.run("track", Settings(n=3), {}), Options())


def test_a_run_that_is_made_anew_is_another_input(made):
    project, first, second = made
    assert first.as_input != second.as_input
    before = first.as_input
    with project.record(first, Settings(n=1), {}):
        pass
    assert first.as_input != before and first.as_input.startswith(first.id)
