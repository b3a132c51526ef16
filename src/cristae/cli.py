"""The command line: a thin skin over `cristae.api`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from cristae.allocation import wait_asleep
from cristae.commands.check import check
from cristae.commands.correct import correct
from cristae.commands.deciding import advise, doctor, quality
from cristae.commands.importing import import_group
from cristae.commands.plan import plan
from cristae.commands.preparing import align, equalise
from cristae.commands.sample import sample
from cristae.commands.view import view
from cristae.console import (
    GroupWithDefault,
    Stage,
    parse_group,
    project_argument,
    score_table,
    stage_options,
)
from cristae.errors import CristaeError, UsageError

preset_option = click.option("--preset", help="Named settings of training: default, fast, machireddy2023.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="cristae")
def cli() -> None:
    """Segment cells and organelles in volume electron microscopy from a few labelled slices.

    \b
    A first project:
      cristae init bx1 --voxel-size 4 4 4
      cristae import image bx1 SLICES/
      cristae import labels bx1 NUCLEI/ --class nucleus
      cristae run bx1

    Progress goes to standard error, results to standard output. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad
    data, 4 too little disk, memory or hardware, 130 cancelled (the same command goes on).
    """  # noqa: D301  a backspace is how click keeps lines


@cli.command()
@click.argument("project", type=click.Path(path_type=Path))
@click.option("--voxel-size", nargs=3, type=float, required=True, metavar="Z Y X", help="Voxel size in nanometres.")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Structure to segment; repeatable.")
def init(project: Path, voxel_size: tuple[float, float, float], classes: tuple[str, ...]) -> None:
    """Make a project folder."""
    from cristae import api  # noqa: PLC0415

    made = api.init(project, voxel_size=voxel_size, classes=classes)
    click.echo(f"{made.path}: voxels of {' × '.join(f'{size:g}' for size in voxel_size)} nm (z, y, x)")


for command in (import_group, check, align, equalise, plan, correct, view, advise, quality, doctor, sample):
    cli.add_command(command)


@cli.command()
@project_argument
@preset_option
@stage_options
def train(stage: Stage, project: Path, preset: str | None) -> None:
    """Learn from the labelled slices."""
    from cristae import api  # noqa: PLC0415

    chosen = {"preset": preset} if preset else {}
    run = api.train(project, options=stage.options, **chosen | stage.settings("train"))
    facts = run.manifest
    stage.show(facts, f"trained {', '.join(facts['classes'])} in {facts['training_seconds']:.0f} s: {run.path}")


@cli.command()
@project_argument
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OTHER",
    help="Another project, or a train run, whose networks are adapted.",
)
@stage_options
def adapt(stage: Stage, project: Path, source: Path) -> None:
    """Adapt the networks of another project to this volume, without labels."""
    from cristae import api  # noqa: PLC0415

    run = api.adapt(project, source, options=stage.options, **stage.settings("adapt"))
    facts = run.manifest
    origin = "/".join(one for one in (facts["start"]["project"], f"train-{facts['start']['run']}") if one)
    stage.show(facts, f"adapted {', '.join(facts['classes'])} of {origin}: {run.path}")


@cli.command()
@project_argument
@stage_options
def predict(stage: Stage, project: Path) -> None:
    """Segment every slice with the networks trained last."""
    from cristae import api  # noqa: PLC0415

    run = api.predict(project, options=stage.options, **stage.settings("predict"))
    stage.show(run.manifest, f"predicted {', '.join(run.manifest['classes'])}: {run.path}")


@cli.command()
@project_argument
@stage_options
def objects(stage: Stage, project: Path) -> None:
    """Give every predicted organelle an id of its own."""
    from cristae import api  # noqa: PLC0415

    run = api.objects(project, options=stage.options, **stage.settings("objects"))
    counts = ", ".join(f"{n} of {name}" for name, n in run.manifest["n_objects"].items())
    stage.show(run.manifest, f"objects: {counts}: {run.path}")


@cli.command()
@project_argument
@stage_options
def cells(stage: Stage, project: Path) -> None:
    """Give every cell in every slice its id, from labelled slices."""
    from cristae import api  # noqa: PLC0415

    run = api.cells(project, options=stage.options, **stage.settings("cells"))
    facts = run.manifest
    stage.show(facts, f"{facts['name']} by {facts['method']}, {facts['n_new']} found between slices: {run.path}")


@cli.command()
@project_argument
@stage_options
def track(stage: Stage, project: Path) -> None:
    """Follow cells and their protrusions through the volume: one id each."""
    from cristae import api  # noqa: PLC0415

    run = api.track(project, options=stage.options, **stage.settings("track"))
    facts = run.manifest
    words = f"{facts['n_objects']} objects, {facts['n_lonely_islands']} of them islands that reach no cell"
    stage.show(facts, f"tracked {facts['name']}: {words}: {run.path}")


class StudyGroup(GroupWithDefault):
    """`cristae study PROJECT` is ``cristae study networks PROJECT``."""

    default = "networks"


@cli.group(cls=StudyGroup)
def study() -> None:
    """Find out what suits a volume. Without a command: networks."""


@study.command("networks")
@project_argument
@stage_options
def study_networks(stage: Stage, project: Path) -> None:
    """Train networks in several ways from several numbers of labelled slices, and score them on other slices."""
    from cristae import api  # noqa: PLC0415

    given = stage.grouped("study_networks", "train")
    run = api.study_networks(
        project, options=stage.options, train=given.get("train"), **given.get("study_networks", {})
    )
    stage.show(run.manifest, f"{(run.path / 'study.md').read_text()}\n{run.path}")


@study.command("cells")
@project_argument
@stage_options
def study_cells(stage: Stage, project: Path) -> None:
    """Show some slices of the truth to every method, and score the cells it finds on the others."""
    from cristae import api  # noqa: PLC0415

    given = stage.grouped("study_cells", "cells")
    run = api.study_cells(project, options=stage.options, cells=given.get("cells"), **given.get("study_cells", {}))
    stage.show(run.manifest, f"{(run.path / 'table2.md').read_text()}\n{run.path}")


@cli.command()
@project_argument
@stage_options
def anatomy(stage: Stage, project: Path) -> None:
    """Find the cell that every organelle belongs to, and what lies across cells."""
    from cristae import api  # noqa: PLC0415

    run = api.find_parents(project, options=stage.options, **stage.settings("anatomy"))
    facts = run.manifest
    words = ", ".join(f"{facts['n_across'][name]} of {n} {name}" for name, n in facts["n_objects"].items())
    stage.show(facts, f"across cells: {words}: {run.path}")


@cli.command()
@project_argument
@click.option("--cross-validate", is_flag=True, help="Without truth: leave out one labelled slice at a time.")
@stage_options
def evaluate(stage: Stage, project: Path, cross_validate: bool) -> None:
    """Score the prediction, and the cells, against the truth."""
    from cristae import api  # noqa: PLC0415
    from cristae.stages.score_cells import cells_table  # noqa: PLC0415

    if cross_validate:
        run = api.cross_validate(project, options=stage.options, **stage.settings("train"))
    else:
        run = api.evaluate(project, options=stage.options, **stage.settings("evaluate"))
    scores = json.loads((run.path / "scores.json").read_text())
    tables = [score_table(scores)] if scores["classes"] else []
    stage.show(scores, "\n".join([*tables, *([cells_table(scores["cells"])] if "cells" in scores else [])]))


@cli.command()
@click.argument("projects", nargs=-1, type=click.Path(path_type=Path), metavar="[PROJECT]...")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where results go.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="NAME=PROJECT,PROJECT",
    help="Projects that belong together; repeatable.",
)
@stage_options
def compare(stage: Stage, projects: tuple[Path, ...], out: Path, groups: tuple[str, ...]) -> None:
    """Compare what was measured in several projects: effect sizes, permutation tests, figures."""
    from cristae import api  # noqa: PLC0415

    named = [parse_group(text) for text in groups]
    if len(dict(named)) < len(named):
        raise UsageError("--group names a group twice; give all its projects at once, such as --group old=bx1,bx2")
    page = api.compare(projects, out, groups=dict(named), options=stage.options, **stage.settings("compare"))
    facts = json.loads((out / "manifest.json").read_text())
    stage.show({"page": page, **facts}, f"{(out / 'comparison.md').read_text()}\n{page}")


@cli.command()
@project_argument
@stage_options
def measure(stage: Stage, project: Path) -> None:
    """Measure every object: shape, texture, what lies in it and near it."""
    from cristae import api  # noqa: PLC0415
    from cristae.stages.measure import summary_table  # noqa: PLC0415

    run = api.measure(project, options=stage.options, **stage.settings("measure"))
    stage.show(run.manifest, f"{summary_table(run.manifest['summary'])}\n{run.path}")


@cli.command()
@project_argument
@stage_options
def mesh(stage: Stage, project: Path) -> None:
    """Make smooth closed surfaces of objects and cells, as files for other programs: GLB, PLY, STL, neuroglancer."""
    from cristae import api  # noqa: PLC0415

    run = api.mesh(project, options=stage.options, **stage.settings("mesh"))
    facts = run.manifest
    counts = ", ".join(f"{n} of {name} ({facts['n_faces'][name]} triangles)" for name, n in facts["n_objects"].items())
    stage.show(facts, f"meshes: {counts}: {run.path}")


@cli.command()
@project_argument
@stage_options
def render(stage: Stage, project: Path) -> None:
    """Take a picture, or a movie, of objects and cells; it needs no display and no graphics card."""
    from cristae import api  # noqa: PLC0415

    given = stage.grouped("render", "mesh")
    run = api.render(project, options=stage.options, mesh=given.get("mesh"), **given.get("render", {}))
    facts = run.manifest
    stage.show(facts, "\n".join(str(run.path / name) for name in facts["files"]))


@cli.command()
@project_argument
@stage_options
def report(stage: Stage, project: Path) -> None:
    """Write report/index.html from what is in the project folder."""
    from cristae import api  # noqa: PLC0415

    stage.settings("report")
    page = api.write_report(project, options=stage.options)
    stage.show({"report": page}, f"report: {page}")


@cli.command()
@project_argument
@preset_option
@stage_options
def run(stage: Stage, project: Path, preset: str | None) -> None:
    """Train, predict, evaluate, measure and report; finished stages are skipped."""
    from cristae import api  # noqa: PLC0415

    settings = stage.grouped("train", "predict", "cells", "track", "objects", "anatomy", "evaluate", "measure")
    if preset:
        settings["train"] = {"preset": preset} | settings.get("train", {})
    page = api.run(project, options=stage.options, settings=settings)
    stage.show({"report": page}, f"report: {page}")


@cli.command()
@project_argument
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def status(project: Path, as_json: bool) -> None:
    """Show how far each stage is: done, running, interrupted, stale."""
    from cristae import api  # noqa: PLC0415

    entries = api.status(project)
    if as_json:
        click.echo(json.dumps([vars(entry) for entry in entries]))
        return
    for entry in entries:
        click.echo(f"{entry.stage:14} {entry.condition:12} {entry.detail}")


@cli.command()
@click.argument("project", type=click.Path(path_type=Path))
@click.argument("layer")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--format", help="precomputed, webknossos, nnunet, or what the suffix says.")
@click.option("--mask-value", type=int, help="Value of every labelled voxel, such as 255; without, ids as stored.")
@stage_options
def export(stage: Stage, project: Path, layer: str, destination: Path, **given: Any) -> None:
    """Write a layer to .tif, .model (MIB), .mrc, .h5, .nrrd, .nii.gz, or else to a folder of TIFF slices.

    LAYER is image, NAME (mask, or ids of cells), NAME/objects, NAME/probability, annotations/NAME or truth/NAME; all
    classes in one map: annotations, truth or masks.
    """
    from cristae import api  # noqa: PLC0415

    settings = {name: value for name, value in given.items() if value is not None} | stage.settings("export")
    path = api.export(project, layer, destination, options=stage.options, **settings)
    stage.show({"path": path}, f"{layer}: {path}")


@cli.command()
@click.argument("project", type=click.Path(path_type=Path))
@click.option("--shape", nargs=3, type=int, metavar="Z Y X", help="Size in voxels.")
@click.option("--voxel-size", nargs=3, type=float, metavar="Z Y X", help="Voxel size in nanometres.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another tumour.")
@click.option("--labelled", type=int, default=7, show_default=True, help="Evenly spaced slices that are labelled.")
@click.option("--cells", "with_cells", is_flag=True, help="Label cells on these slices too.")
@stage_options
def phantom(stage: Stage, project: Path, labelled: int, with_cells: bool, **rest: Any) -> None:
    """Make a project with a synthetic tumour and its exact truth, to try everything on."""
    from cristae import api  # noqa: PLC0415

    given = {name: value for name, value in rest.items() if value}
    given |= stage.settings("phantom")
    made = api.make_phantom(project, options=stage.options, n_labelled=labelled, with_cells=with_cells, **given)
    stage.show({"project": made.path}, f"phantom with {labelled} labelled slices: {made.path}")


def main() -> None:
    """Run the command and turn what went wrong into a sentence and an exit code."""
    wait_asleep()
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("cancelled; the same command goes on where this stopped (leave out --force)", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("cancelled; the same command goes on where this stopped (leave out --force)", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CristaeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
