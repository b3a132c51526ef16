"""`cristae study`: which network, which scheme and how many labelled slices suit a volume of your own.

For whoever has to decide what to train, and how many slices to paint. Networks × schemes × contexts × numbers of
labelled slices × repeats are trained, and scored on the slices that none of them was shown::

    7 slices    |... ...|... ...|... ...|... ...|    | shown        . scored, wherever there is truth
    15 slices   |...|...|...|...|...|...|...|...|

Every trial is kept as soon as it is scored, so that a killed study goes on with the next one.

Paper: L. Pagano et al. (2023), Front. Bioinform. 3, 1308707, Tables 1–6, Figures 2 and 5.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from cristae.errors import UsageError
from cristae.files import copy_folder, write_atomically
from cristae.nets.registry import NETWORKS, network_names
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.evaluate import evaluate_settings
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import within_processes
from cristae.stages.options import Options
from cristae.stages.predict import predict_settings
from cristae.stages.schemes import choose_device
from cristae.stages.study_checks import check_trials
from cristae.stages.study_grid import Choice, Pool, Trial, choose_slices, numbers_of_slices, pool_of
from cristae.stages.study_pace import Pace, measure_pace, updates_in_budget
from cristae.stages.study_results import GROWING, Tables, write_answer
from cristae.stages.study_ruler import Ruler, Scored, ruler_of
from cristae.stages.study_trial import Bench, clear, is_finished
from cristae.stages.study_words import answer
from cristae.stages.study_workers import ended, threads_of_each
from cristae.stages.train import classes_to_learn
from cristae.stages.train_settings import Scheme, TrainSettings, train_settings
from cristae.wording import number_ranges

_USUAL = ("resunet", "unetplusplus", "fractalresnet", "senformer")


class StudyNetworksSettings(BaseModel):
    """Settings of `cristae study`. How networks are trained is set by those of `train`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: tuple[str, ...] = Field(
        (), description=f"networks to compare, by name; empty means those of {', '.join(_USUAL)} that there are"
    )
    schemes: tuple[Scheme, ...] = Field(
        ("supervised", "cps", "cps_cutmix"), min_length=1, description="ways of learning to compare"
    )
    slices: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description="numbers of labelled slices; empty means those of 7, 10, 15, 25 and 50 that exist, else as many as "
        "can be shown",
    )
    choice: Choice = Field("even", description="slices shown are evenly spaced, or others in each repeat, at random")
    scored: Scored = Field(
        "common",
        description="slices that count: those that no training of the study is shown, the same for all, or of each "
        "training those that it is not shown. Where a class is on none of the former, the latter",
    )
    repeats: int = Field(3, ge=1, le=100, description="trainings of each kind, with different seeds")
    classes: tuple[str, ...] = Field((), description="classes to learn; empty means those of train")
    context_nm: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="what a tile spans in nm, values to compare; empty means that of train"
    )
    budget_s: float = Field(
        0.0, ge=0, description="seconds of training for each, which decide the number of updates; 0 means that of train"
    )
    keep_weights: bool = Field(False, description="keep the trained networks, which are removed else")


def study_networks_settings(project: Project, changes: Mapping[str, Any]) -> StudyNetworksSettings:
    """Return the settings of a study: defaults, then project file, then `changes`."""
    settings = resolve_settings(StudyNetworksSettings, project.stage_settings("study_networks"), changes)
    unknown = [name for name in settings.networks if name not in network_names()]
    if unknown:
        raise UsageError(f"unknown networks {', '.join(unknown)}; there are {', '.join(network_names())}")
    return settings


def study_networks(
    project: Project,
    settings: StudyNetworksSettings | None = None,
    options: Options | None = None,
    training: TrainSettings | None = None,
) -> Run:
    """Train networks in several ways on some of the labelled slices, and score them on slices not shown.

    Each is scored on all slices that it was not shown. Those that no training was shown count, where every class is on
    one of them.

    Writes ``study.parquet`` and ``study.csv`` (a row per trial and class) and ``slices.parquet`` (a row per trial,
    class and slice) after each trial; ``methods.csv`` and ``summary.csv`` (means over repeats), ``study.md`` (the
    answer in words, and Tables 1–6 of the paper), ``curves`` (Dice over the number of labelled slices) and ``along_z``
    (Dice of each slice), and, where there is a truth of most slices, ``shapes`` (it beside what the best method found,
    in 3D), as SVG and PNG.

    Parameters
    ----------
    project
        With labelled slices. Its truth is what is scored against; without one, labelled slices that are not shown.
    settings
        Defaults with the changes of the project file if not given.
    options
        How to work. With ``threads:N``, N networks are trained side by side, each in a process of its own.
    training
        How networks are trained; the settings of `train` in the project file if not given.

    Raises
    ------
    DataError
        If too few slices are labelled, or a class is on none of those shown.
    UsageError
        If a network is unknown, or tiles, batches or widths are too small for one of them, more labelled slices are
        asked for than there are, or not one update fits in the budget. Nothing is trained before all is looked at.
    ResourceError
        If CUDA is asked for and absent, the project is in use, the disk is full, more memory is needed than allowed,
        or a process is ended from outside. What was finished is kept.
    """
    settings, options = settings or study_networks_settings(project, {}), options or Options()
    bench = _bench(project, settings, training or train_settings(project, {}))
    choose_device(bench.training.device)
    never = set(bench.training.exclude_slices)
    pool = pool_of(project, bench.classes, bench.from_truth, bench.training.slices, {*never, *project.lost_slices})
    trials = plan(settings, bench.training, pool)
    ruler = ruler_of(bench, settings.scored, pool, trials)
    inputs = {
        **bench.inputs,
        "training": bench.training.model_dump_json(),
        "prediction": bench.prediction.model_dump_json(exclude={"max_ram_gb"}),
        "rules": bench.rules.model_dump_json(),
        "trials": " ".join(bench.name(trial) for trial in trials),
    }
    run = project.run("study_networks", settings, inputs)
    if nothing_to_do(project, run, options, "study"):
        return run
    check_trials(bench, trials)
    bench, options = _keep_memory(bench, trials, options)
    options.check()
    with project.lock(), project.record(run, settings, inputs):
        run.update(learnt=list(bench.classes))
        if options.force:
            _forget(run)
        else:
            _take_over(project, run, [bench.name(trial) for trial in trials], settings.keep_weights)
        scored = "the truth" if bench.from_truth else "labelled slices that are not shown"
        size = " × ".join(f"{length:g}" for length in project.image.grid.voxel_size)
        options.notify(
            f"study: {', '.join(bench.classes)}; {len(trials)} trainings, scored on {scored}; voxels of {size} nm "
            "(z, y, x)"
        )
        if ruler.excuse:
            options.notify(f"study: {ruler.excuse}")
        tables = Tables(bench, trials, run, ruler)
        _work_off(bench, trials, run, options, tables)
        words, notes = answer(tables.rows), _notes(bench, settings, tables.rows, pool, ruler)
        if excuse := write_answer(project, tables, words, notes):
            options.notify(f"study: no picture in 3D, for {excuse}")
        about = {"n_trials": len(trials), "from_truth": bench.from_truth, "scored": ruler.kind}
        run.update(sentences=words, notes=notes, **about)
    options.notify(f"study: {words[0]}")
    return run


def plan(settings: StudyNetworksSettings, training: TrainSettings, pool: Pool) -> list[Trial]:
    """Return all trials of a study, one repeat after the other, so that early on every kind has been tried."""
    networks = dict.fromkeys(settings.networks or [name for name in _USUAL if name in NETWORKS])
    contexts = dict.fromkeys(settings.context_nm or (training.context_nm,))
    numbers = numbers_of_slices(settings.slices, pool)
    chosen = choose_slices(pool, numbers, settings.choice, settings.repeats, training.seed)
    return [
        Trial(network, scheme, context, chosen[n, repeat], repeat)
        for repeat in range(settings.repeats)
        for n in numbers
        for network in networks
        for scheme in dict.fromkeys(settings.schemes)
        for context in contexts
    ]


def _bench(project: Project, settings: StudyNetworksSettings, training: TrainSettings) -> Bench:
    training = training.model_copy(update={"classes": settings.classes or training.classes})
    classes = classes_to_learn(project, training)
    truth, annotations = project.truth, project.annotations
    from_truth = all(
        truth.labelled_slices(name) and truth.has_instances(name) == annotations.has_instances(name) for name in classes
    )
    inputs = {
        "image": project.image_fingerprint,
        "labels": annotations.fingerprint(classes),
        "truth": truth.fingerprint(classes),
    }
    # Every slice that is scored was not shown to the network.
    rules = evaluate_settings(project, {"exclude_labelled": False})
    how = predict_settings(project, {}).model_copy(update={"axes": "z"})
    return Bench(project, classes, training, how, rules, from_truth, settings.budget_s, inputs, settings.keep_weights)


def _keep_memory(bench: Bench, trials: Sequence[Trial], options: Options) -> tuple[Bench, Options]:
    """Return how to score, and how many processes there may be, so that ``options.max_ram_gb`` is kept."""
    if options.max_ram_gb is None:
        return bench, options
    from cristae.stages.study_needs import trials_need  # noqa: PLC0415  it knows all stages

    allowed = bench.prediction.max_ram_gb * 2**30
    allowed, options = within_processes("study networks", trials_need(bench, trials), allowed, options)
    scoring = bench.prediction.model_copy(update={"max_ram_gb": allowed / 2**30})
    return replace(bench, prediction=scoring), options


def _forget(run: Run) -> None:
    for folder in run.path.glob("trial-*"):
        shutil.rmtree(folder)
    for name in ("pace.json", *GROWING):
        (run.path / name).unlink(missing_ok=True)


def _take_over(project: Project, run: Run, names: Sequence[str], keep_weights: bool) -> None:
    """Copy what another study has finished already."""
    for name in names:
        here = run.path / name
        if is_finished(here):
            if not keep_weights:
                clear(here)  # killed between the two
            continue
        there = [other.path / name for other in project.runs("study_networks") if is_finished(other.path / name)]
        if there and not (keep_weights and not any(one.is_dir() for one in there[0].iterdir())):
            shutil.rmtree(here, ignore_errors=True)
            partial = here.with_name(f".{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            copy_folder(there[0], partial)
            partial.replace(here)


def _work_off(bench: Bench, trials: Sequence[Trial], run: Run, options: Options, tables: Tables) -> None:
    """Do all trials that are not finished; the tables hold each from when it is."""
    folders = {trial: run.path / bench.name(trial) for trial in trials}
    todo = [trial for trial in trials if not is_finished(folders[trial])]
    crew = options.crew(run.path)
    whole = torch.get_num_threads()
    torch.set_num_threads(threads_of_each(crew) or whole)
    try:
        updates = _updates(bench, todo, run, options)
    finally:
        torch.set_num_threads(whole)
    progress, done, total = options.progress("study"), len(trials) - len(todo), len(trials)
    work = [(bench, trial, folders[trial], updates[trial]) for trial in todo]
    tables.add([trial for trial in trials if trial not in updates])
    for trial in ended(work, crew, choose_device(bench.training.device)):
        done += 1
        rows = tables.add([trial])
        told = ", ".join(f"{row['class']} {_number(row['dice_3d'])}" for row in rows)
        failed = f"; it failed: {rows[0]['failed']}" if rows[0]["failed"] else ""
        options.notify(f"study: {done} of {total}: {trial.words}: Dice of {told}{failed}")
        progress(done, total)


def _updates(bench: Bench, trials: Sequence[Trial], run: Run, options: Options) -> dict[Trial, int]:
    """Return the number of updates of each trial; how fast this machine is, is measured once for each kind."""
    if not bench.budget_s:
        return dict.fromkeys(trials, bench.training.updates)
    kept = run.path / "pace.json"
    paces: dict[str, list[float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    updates = {}
    for trial in trials:
        kind = f"{trial.network} {trial.scheme} {trial.context_nm:g} nm {len(trial.slices)} slices"
        if kind not in paces:
            scratch = run.path / ".pace"
            shutil.rmtree(scratch, ignore_errors=True)
            pace = measure_pace(bench, trial, scratch)
            updates[trial] = updates_in_budget(bench, trial, pace)
            paces[kind] = [pace.update_s, pace.judgement_s]
            write_atomically(kept, json.dumps(paces, indent=1) + "\n")
            options.notify(
                f"study: {kind}: {1000 * pace.update_s:.0f} ms per update on this machine, so {updates[trial]} updates "
                f"in {bench.budget_s:g} s"
            )
        updates[trial] = updates_in_budget(bench, trial, Pace(*paces[kind]))
    return updates


def _notes(bench: Bench, settings: StudyNetworksSettings, table: pd.DataFrame, pool: Pool, ruler: Ruler) -> list[str]:
    """Return what a reader of the tables has to know."""
    lowest, highest = table["n_scored_slices"].min(), table["n_scored_slices"].max()
    n_scored = f"{lowest}" if lowest == highest else f"{lowest}–{highest}"
    what = "slices of the truth" if bench.from_truth else "labelled slices, for there is no truth of all classes,"
    notes = [f"Scored on {n_scored} {what} that {ruler.words}. Labelled are z {number_ranges(pool.slices)}."]
    notes += [f"{ruler.excuse}."] if ruler.excuse else []
    if set(settings.schemes) - {"supervised"}:
        notes.append(
            "Networks that teach each other also saw slices that are scored, without their labels, as they would when "
            "they are used."
        )
    if bench.budget_s:
        device, n = table["device"].replace("", "cpu").mode()[0], table["updates"]
        notes.append(
            f"Each training had {bench.budget_s:g} s: {n.min()} to {n.max()} updates, by the pace of a throw-away copy "
            f"on this machine ({device}, {os.cpu_count()} processors)."
        )
    else:
        notes.append(f"Each training had {bench.training.updates} updates, whatever time they take.")
    spread = "weights, patches and slices shown" if settings.choice == "random" else "weights and patches"
    if settings.repeats > 1:
        notes.append(f"± is the standard deviation over {settings.repeats} repeats, which differ in {spread}.")
    failed = table[table["failed"] != ""].drop_duplicates("trial")
    notes += [
        f"{row['network']} by {row['scheme']}, {row['n_slices']} slices, repeat {row['repeat'] + 1} failed and counts "
        f"0: {row['failed']}"
        for _, row in failed.iterrows()
    ]
    return notes


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
