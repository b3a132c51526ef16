"""`cristae compare`: what was measured in several projects, side by side.

For whoever asks whether two samples, or two groups of samples, differ, and in what. Only tables are read; they are left
as they are. Everything goes to a folder of its own, which can be read without the projects::

    out/index.html           figures and tables to read; comparison.md: the same in words
    out/comparison.csv       a row per class, feature and pair of groups: effect sizes, p-values
    out/overall.csv          with more than two groups: whether any differs
    out/groups.csv           number, mean, spread and quartiles per class, feature and group
    out/objects.parquet      what was compared

What is a replicate and what is not, is told in `cristae.comparison`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.comparison import Comparison, Level, Procedure, compare_groups
from cristae.errors import DataError, UsageError
from cristae.files import writable, write_atomically
from cristae.permutation import Statistic
from cristae.project import Project
from cristae.stages.comparison_text import headline, markdown
from cristae.stages.measured import Measured, feature_columns, read_measured, settings_that_differ
from cristae.stages.options import Options

MANIFEST = "manifest.json"


class CompareSettings(BaseModel):
    """Settings of `cristae compare`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statistic: Statistic = Field("mean", description="what is compared, and what stands for a sample")
    level: Level = Field(
        "auto",
        description="what is permuted: 'samples', 'objects' (exploratory: objects of a sample are no replicates), or "
        "'auto': samples where there are enough for p to reach 0.05, such as four against four",
    )
    n_permutations: int = Field(
        10_000, ge=99, le=1_000_000, description="above this number of arrangements, as many are drawn; else all tried"
    )
    seed: int = Field(0, ge=0, description="of the permutations that are drawn")
    classes: tuple[str, ...] = Field((), description="classes to compare; empty means all")
    features: tuple[str, ...] = Field((), description="columns of the tables to compare; empty means all features")
    whole_objects_only: bool = Field(False, description="leave out objects that touch the edge of their volume")


def compare(
    projects: Sequence[Project],
    out: Path,
    groups: Mapping[str, Sequence[Project]] | None = None,
    settings: CompareSettings | None = None,
    options: Options | None = None,
) -> Path:
    """Compare what was measured last in several projects, and write tables and text to a folder.

    Parameters
    ----------
    projects
        At least two, each one sample. Those that are named in groups need not be named here.
    out
        A new or empty folder, or that of an earlier comparison, which is replaced if anything differs.
    groups
        Projects under a name; every project is in one group. Without them, each is a group of its own.
    settings
        Defaults if not given.
    options
        How to work.

    Returns
    -------
    Path
        The folder. ``index.html`` is written by `cristae.report.compare`.

    Raises
    ------
    UsageError
        If there are fewer than two groups, a project is in none or in two of them, a class or feature is unknown, or
        the folder holds something else.
    DataError
        If a project has no measurements, two samples have one name, or no class is in two groups.
    """
    settings, options = settings or CompareSettings(), options or Options()
    keys = [_key(project) for project in projects]
    more = [one for members in (groups or {}).values() for one in members if _key(one) not in keys]
    projects = [*projects, *{_key(one): one for one in more}.values()]
    _check_groups(projects, groups)
    _check_folder(out)
    measured = {_key(project): read_measured(project) for project in projects}
    every = list(measured.values())
    _check_samples(every)
    samples = {one.sample: [one.sample] for one in every}
    if groups:
        samples = {name: [measured[_key(one)].sample for one in members] for name, members in groups.items()}
    identity = _identity(every, samples, settings)
    if _finished(out) == identity and not options.force:
        options.notify(f"compare: nothing to do, {out} is finished (do it again with --force)")
        return out
    objects, features = _objects(every, settings)
    _check_classes(objects, samples)
    facts = [f"{len(objects):,} objects", f"{len(features)} features", f"{len(samples)} groups"]
    options.notify(f"compare: {', '.join(facts)}, {sum(map(len, samples.values()))} samples")
    begin, progress = time.monotonic(), options.progress("compare")
    procedure = Procedure(settings.statistic, settings.level, settings.n_permutations, settings.seed)
    found = compare_groups(objects, samples, features, procedure)
    progress(1, 1)
    notes = [*found.notes, *_notes(every, settings)]
    dictionary = _dictionary(every)
    with writable(out):
        out.mkdir(parents=True, exist_ok=True)
        _begin(out)
        _write(out, found, objects, dictionary)
        write_atomically(out / "comparison.md", markdown(found.pairs, samples, notes, dictionary))
        manifest = {
            "stage": "compare",
            "id": identity,
            "groups": samples,
            "samples": [_sample_facts(one) for one in every],
            "settings": settings.model_dump(mode="json"),
            "sentence": headline(found.pairs),
            "notes": notes,
            "cristae": version("cristae"),
            "ended": time.time(),
            "seconds": round(time.monotonic() - begin, 3),
        }
        write_atomically(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    options.notify(f"compare: {headline(found.pairs)}")
    return out


def _key(project: Project) -> Path:
    return project.path.resolve()


def _check_groups(projects: Sequence[Project], groups: Mapping[str, Sequence[Project]] | None) -> None:
    keys = [_key(project) for project in projects]
    twice = [path.name for path in dict.fromkeys(keys) if keys.count(path) > 1]
    if twice:
        raise UsageError(f"{', '.join(twice)} is given twice; a sample can only be compared with others")
    if len(projects if groups is None else groups) < 2:
        got = ", ".join(groups or [path.name for path in keys]) or "none"
        raise UsageError(f"expected at least two projects, or two groups of them, to compare; got {got}")
    if groups is None:
        return
    empty = [name for name, members in groups.items() if not members]
    if empty:
        raise UsageError(f"expected projects in every group; there are none in {', '.join(empty)}")
    members = [_key(project) for group in groups.values() for project in group]
    several = [path.name for path in dict.fromkeys(members) if members.count(path) > 1]
    if several:
        raise UsageError(f"expected every project in one group and once, found {', '.join(several)} more often")
    outside = [path.name for path in keys if path not in members]
    if outside:
        raise UsageError(f"{', '.join(outside)}: in no group; add it to one with --group, or leave it out")


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; expected a folder for the comparison")
    if out.is_dir() and any(out.iterdir()) and _finished(out) is None:
        raise UsageError(f"{out} holds something else than a comparison; give a new or an empty folder")


def _finished(out: Path) -> str | None:
    """Return the id of the comparison that a folder holds, "" if it was not finished; None if it holds none."""
    try:
        facts = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""
    return str(facts.get("id", "")) if isinstance(facts, dict) and facts.get("stage") == "compare" else None


def _check_samples(measured: Sequence[Measured]) -> None:
    for one, other in itertools.combinations(measured, 2):
        if one.sample == other.sample:
            raise DataError(
                f"{one.project.path} and {other.project.path} both measured a sample called {one.sample!r}; expected a "
                "name for each: rename one of the folders and measure it again"
            )


def _check_classes(objects: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> None:
    there = {
        name: list(dict.fromkeys(objects.loc[objects["sample_id"].isin(samples), "class"]))
        for name, samples in groups.items()
    }
    common = [kind for kind in objects["class"].unique() if sum(kind in names for names in there.values()) > 1]
    if not common:
        told = "; ".join(f"{name}: {', '.join(names) or 'none'}" for name, names in there.items())
        raise DataError(f"no class has objects in two groups ({told}); expected one under the same name in both")


def _identity(measured: Sequence[Measured], groups: Mapping[str, Sequence[str]], settings: CompareSettings) -> str:
    facts = {
        "runs": [f"{one.sample}: {one.run.as_input}" for one in measured],
        "groups": {name: list(samples) for name, samples in groups.items()},
        "order": list(groups),
        "settings": settings.model_dump(mode="json"),
        "cristae": version("cristae"),
    }
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()


def _objects(measured: Sequence[Measured], settings: CompareSettings) -> tuple[pd.DataFrame, list[str]]:
    """Return objects of all samples one below the other, and which of their columns are compared."""
    tables = [one.objects.assign(sample_id=one.sample) for one in measured]
    _check_known("class", settings.classes, {name for table in tables for name in table["class"]})
    kept = []
    for table in tables:
        rows = table["class"].isin(settings.classes or table["class"].unique())
        if settings.whole_objects_only:
            rows &= ~table["touches_edge"]
        kept.append(table[rows])
    known = list(dict.fromkeys(name for table in tables for name in feature_columns(table)))
    _check_known("feature", settings.features, set(known))
    features = [name for name in known if name in (settings.features or known)]
    columns = ["sample_id", "class", "object_id", "touches_edge"]
    parts = [table.reindex(columns=[*columns, *features]) for table in kept if len(table)]
    if not parts:
        raise DataError("there are no objects to compare; expected measured objects in at least two projects")
    types = dict.fromkeys(features, "float64")
    return pd.concat([part.astype(types) for part in parts], ignore_index=True), features


def _check_known(what: str, wanted: Sequence[str], known: set[str]) -> None:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(sorted(known)) or 'none'}")


def _dictionary(measured: Sequence[Measured]) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for one in measured:
        found = {**one.dictionary, **found}
    return found


def _notes(measured: Sequence[Measured], settings: CompareSettings) -> Iterator[str]:
    """Say what makes samples hard to compare."""
    for one in measured:
        if one.stale:
            yield f"{one.sample}: it has changed since it was measured; run cristae measure {one.project.path}."
    sizes = {one.sample: one.project.file.voxel_size_nm for one in measured}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {' × '.join(f'{length:g}' for length in size)}" for name, size in sizes.items())
        yield (
            f"Voxel sizes differ ({told} nm; z, y, x). Texture is measured in voxels, and small folds of surfaces are "
            "seen in fine voxels only: differences of these features may be differences of imaging."
        )
    different = settings_that_differ(one.run for one in measured)
    if different:
        yield f"Samples were measured with different settings ({'; '.join(different)})."
    if settings.whole_objects_only:
        yield "Objects that touch the edge of their volume are left out."


def _begin(out: Path) -> None:
    """Remove what an earlier comparison wrote; without an id in its manifest, a comparison is not finished."""
    write_atomically(out / MANIFEST, json.dumps({"stage": "compare"}) + "\n")
    for pattern in ("index.html", "figure-*.svg", "figure-*.png", "overall.*"):
        for path in out.glob(pattern):
            path.unlink()


def _write(out: Path, found: Comparison, objects: pd.DataFrame, dictionary: Mapping[str, Mapping[str, str]]) -> None:
    for name, table in (("comparison", found.pairs), ("overall", found.overall), ("groups", found.groups)):
        if name == "overall" and not len(table):
            continue
        if len(table):
            units = [str(dictionary.get(feature, {}).get("unit", "")) for feature in table["feature"]]
            table.insert(2, "unit", units)
        table.to_parquet(out / f"{name}.parquet", index=False)
        write_atomically(out / f"{name}.csv", table.to_csv(index=False))
    objects.to_parquet(out / "objects.parquet", index=False)
    write_atomically(out / "dictionary.json", json.dumps(dictionary, indent=1, ensure_ascii=False) + "\n")


def _sample_facts(one: Measured) -> dict[str, Any]:
    counted = one.objects["class"].value_counts(sort=False)
    return {
        "sample": one.sample,
        "project": one.project.name,
        "run": one.run.path.name,
        "stale": one.stale,
        "voxel_size_nm": list(one.project.file.voxel_size_nm),
        "n_objects": {str(kind): int(n) for kind, n in counted.items()},
    }
