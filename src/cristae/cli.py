"""The command line: a thin skin over `cristae.api`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cristae.allocation import wait_asleep
from cristae.errors import CristaeError, UsageError

if TYPE_CHECKING:
    from cristae.blockwise import Progress
    from cristae.stages.options import Options

Command = TypeVar("Command", bound=Callable[..., Any])


class Stage:
    """What the shared options of all stage commands amount to."""

    def __init__(self, changes: Sequence[str], quiet: bool, as_json: bool, **work: Any) -> None:
        self.changes, self.quiet, self.as_json, self.work = changes, quiet, as_json, work

    @property
    def options(self) -> Options:
        """The options of the Python interface."""
        from cristae.stages.options import Options  # noqa: PLC0415

        if self.quiet:
            return Options(**self.work)
        return Options(**self.work, progress=_bar, notify=_say)

    def settings(self, stage: str) -> dict[str, Any]:
        """Return the settings of one stage given with ``--set``."""
        return self.grouped(stage).get(stage, {})

    def grouped(self, *stages: str) -> dict[str, dict[str, Any]]:
        """Return all settings given with ``--set``, by stage; only the named stages are allowed."""
        grouped: dict[str, dict[str, Any]] = {}
        for change in self.changes:
            key, equals, value = change.partition("=")
            stage, _, name = key.strip().rpartition(".")
            stage = stage or (stages[0] if len(stages) == 1 else "")
            if not equals or not name or stage not in stages:
                raise UsageError(
                    f"--set {change!r}: expected STAGE.NAME=VALUE with a stage of {', '.join(stages)}, "
                    f"for example --set {stages[0]}.seed=1"
                )
            grouped.setdefault(stage, {})[name] = parse_value(value)
        return grouped

    def show(self, facts: Mapping[str, Any], words: str) -> None:
        """Print the result on standard output: words, or one JSON object."""
        click.echo(json.dumps(facts, default=str) if self.as_json else words)


def parse_value(text: str) -> Any:
    """Return what a value on the command line means: TOML (numbers, true, [1, 2]), ``none``, else the text itself."""
    if text.strip().lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def stage_options(command: Command) -> Command:
    """Give a command the options that all stages share, as its first argument."""

    def wrapped(changes: Sequence[str], quiet: bool, as_json: bool, force: bool, executor: str, **rest: Any) -> Any:
        return command(Stage(changes, quiet, as_json, force=force, executor=executor), **rest)

    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object."),
        click.option("--quiet", is_flag=True, help="Show neither progress nor notes."),
        click.option(
            "--executor",
            default="serial",
            show_default=True,
            metavar="serial|threads:N",
            help="How blocks are worked off.",
        ),
        click.option("--force", is_flag=True, help="Do it again even if it is finished."),
        click.option(
            "--set", "changes", multiple=True, metavar="STAGE.NAME=VALUE", help="Change a setting; repeatable."
        ),
    ):
        wrapped = option(wrapped)
    # Options of the command itself were collected on the function that is wrapped.
    wrapped.__click_params__ = [*getattr(command, "__click_params__", []), *wrapped.__click_params__]  # type: ignore[attr-defined]
    return wrapped  # type: ignore[return-value]


preset_option = click.option("--preset", help="Named settings of training: default, fast, machireddy2023.")
project_argument = click.argument("project", type=click.Path(path_type=Path), default=".")


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


@cli.group("import")
def import_group() -> None:
    """Bring in images and labels."""


@import_group.command("image")
@click.argument("project", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--allow-missing", is_flag=True, help="Fill slices missing from the numbering with 0.")
@stage_options
def import_image(stage: Stage, project: Path, source: Path, allow_missing: bool) -> None:
    """Bring in the micrograph: a folder of slices, a TIFF stack, or OME-Zarr."""
    from cristae import api  # noqa: PLC0415

    given = {"allow_missing": True} if allow_missing else {}
    volume = api.import_image(project, source, options=stage.options, **given | stage.settings("import"))
    facts = {"shape": volume.shape, "voxel_size_nm": volume.grid.voxel_size, "dtype": str(volume.dtype)}
    stage.show(facts, f"imported {' × '.join(map(str, volume.shape))} voxels (z, y, x) into {project}")


def _label_command(verb: str, purpose: str) -> None:
    @import_group.command(verb, help=purpose)
    @click.argument("project", type=click.Path(path_type=Path))
    @click.argument("source", type=click.Path(path_type=Path))
    @click.option(
        "--class",
        "classes",
        multiple=True,
        required=True,
        metavar="NAME[=VALUES]",
        help="Class in the files: all values but 0, or the given ones (nucleus=1,2); repeatable.",
    )
    @click.option("--slices", metavar="Z,Z,...", help="z of each page, or which slices of a full stack are labelled.")
    @click.option("--first-slice", type=int, help="Number that file names give to slice 0.")
    @click.option("--ignore-value", type=int, help="Value in the files that says nobody looked.")
    @click.option("--partial", multiple=True, metavar="NAME", help="Class of which not every object is painted.")
    @click.option("--instances", is_flag=True, help="Values are ids of objects, such as cells; keep them.")
    @stage_options
    def command(stage: Stage, project: Path, source: Path, classes: tuple[str, ...], **rules: Any) -> None:
        from cristae import api  # noqa: PLC0415

        rules["slices"] = parse_slices(rules["slices"])
        named = [parse_class(text) for text in classes]
        rules["classes"] = dict(named)
        if len(rules["classes"]) < len(named):
            raise UsageError("--class names a class twice; give all its values at once, such as --class nucleus=1,7")
        function = api.import_labels if verb == "labels" else api.import_truth
        found = function(project, source, options=stage.options, **rules | stage.settings("import"))
        facts = {name: list(found.labelled_slices(name)) for name in found.classes}
        lines = [f"{name}: {len(slices)} slices in {found.path.name}" for name, slices in facts.items()]
        stage.show(facts, "\n".join(lines))


_label_command("labels", "Bring in labelled slices to learn from: a folder, a TIFF stack, or OME-Zarr.")
_label_command("truth", "Bring in labels to score results against; nothing is learnt from them.")


def parse_class(text: str) -> tuple[str, tuple[int, ...] | None]:
    """Return name and values of ``NAME``, ``NAME=1`` or ``NAME=1,2``."""
    name, equals, values = text.partition("=")
    try:
        return name.strip(), tuple(int(value) for value in values.split(",")) if equals else None
    except ValueError as error:
        raise UsageError(f"--class {text!r}: expected NAME or NAME=1,2 with whole numbers") from error


def parse_slices(text: str | None) -> tuple[int, ...] | None:
    """Return the slices of ``0,6,13`` or ``0-9,20``; None without text."""
    if text is None:
        return None
    slices: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            chosen = range(int(first), int(last) + 1) if dash else [int(first)]
            if not chosen:
                raise ValueError
            slices.extend(chosen)
    except ValueError as error:
        raise UsageError(f"--slices {text!r}: expected numbers and ranges such as 0,6,13 or 0-9,20") from error
    return tuple(slices)


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
@stage_options
def predict(stage: Stage, project: Path) -> None:
    """Segment every slice with the networks trained last."""
    from cristae import api  # noqa: PLC0415

    run = api.predict(project, options=stage.options, **stage.settings("predict"))
    stage.show(run.manifest, f"predicted {', '.join(run.manifest['classes'])}: {run.path}")


@cli.command()
@project_argument
@click.option("--cross-validate", is_flag=True, help="Without truth: leave out one labelled slice at a time.")
@stage_options
def evaluate(stage: Stage, project: Path, cross_validate: bool) -> None:
    """Score the prediction against the truth."""
    from cristae import api  # noqa: PLC0415

    if cross_validate:
        run = api.cross_validate(project, options=stage.options, **stage.settings("train"))
    else:
        run = api.evaluate(project, options=stage.options, **stage.settings("evaluate"))
    scores = json.loads((run.path / "scores.json").read_text())
    stage.show(scores, _score_table(scores))


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
    """Train, predict, evaluate and report; finished stages are skipped."""
    from cristae import api  # noqa: PLC0415

    settings = stage.grouped("train", "predict", "evaluate")
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
@click.option("--mask-value", type=int, help="Value of every labelled voxel, such as 255; without, ids as stored.")
@stage_options
def export(stage: Stage, project: Path, layer: str, destination: Path, mask_value: int | None) -> None:
    """Write a layer as TIFF: a stack if DESTINATION ends in .tif, else a folder of slices.

    LAYER is image, NAME (mask), NAME/probability, annotations/NAME or truth/NAME.
    """
    from cristae import api  # noqa: PLC0415

    settings = {"mask_value": mask_value} | stage.settings("export")
    path = api.export(project, layer, destination, options=stage.options, **settings)
    stage.show({"path": path}, f"{layer}: {path}")


@cli.command()
@click.argument("project", type=click.Path(path_type=Path))
@click.option("--shape", nargs=3, type=int, metavar="Z Y X", help="Size in voxels.")
@click.option("--voxel-size", nargs=3, type=float, metavar="Z Y X", help="Voxel size in nanometres.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another tumour.")
@click.option("--labelled", type=int, default=7, show_default=True, help="Evenly spaced slices that are labelled.")
@stage_options
def phantom(stage: Stage, project: Path, labelled: int, **rest: Any) -> None:
    """Make a project with a synthetic tumour and its exact truth, to try everything on."""
    from cristae import api  # noqa: PLC0415

    given = {name: value for name, value in rest.items() if value}
    made = api.make_phantom(project, options=stage.options, n_labelled=labelled, **given | stage.settings("phantom"))
    stage.show({"project": made.path}, f"phantom with {labelled} labelled slices: {made.path}")


def _score_table(scores: Mapping[str, Any]) -> str:
    columns = ("dice_3d", "dice_2d_mean", "iou", "precision", "recall")
    lines = [f"{scores['protocol']}, {scores['n_slices']} slices", f"{'':20}" + "".join(f"{c:>14}" for c in columns)]
    for name, values in scores["classes"].items():
        shown = ("–" if values[c] is None else f"{values[c]:.4f}" for c in columns)
        lines.append(f"{name:20}" + "".join(f"{value:>14}" for value in shown))
    return "\n".join(lines)


def _bar(task: str) -> Progress:
    """Return a progress bar on standard error; one line every ten seconds where there is no terminal."""
    from tqdm import tqdm  # noqa: PLC0415

    terminal = sys.stderr.isatty()
    bar = tqdm(desc=task, file=sys.stderr, mininterval=0.2 if terminal else 10, dynamic_ncols=terminal, leave=True)

    def advance(done: int, total: int, **facts: float) -> None:
        if bar.total is None:
            bar.total = total
            # What an earlier run did is not to count in the rate.
            bar.initial = bar.n = bar.last_print_n = done - 1
        if facts:
            bar.set_postfix({name: f"{value:.3g}" for name, value in facts.items()}, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return advance


def _say(message: str) -> None:
    from tqdm import tqdm  # noqa: PLC0415

    tqdm.write(message, file=sys.stderr)


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
