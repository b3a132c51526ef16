"""What all commands share: their options, and how they show progress and results."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cristae.errors import UsageError

if TYPE_CHECKING:
    from cristae.blockwise import Progress
    from cristae.stages.options import Options

Command = TypeVar("Command", bound=Callable[..., Any])

project_argument = click.argument("project", type=click.Path(path_type=Path), default=".")
"""The project folder, first argument of most commands; without it the folder that one is in."""


class GroupWithDefault(click.Group):
    """A group of commands of which `default` is meant where the first word is none of them."""

    default = ""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default in front, where it is left out."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


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

    def wrapped(changes: Sequence[str], quiet: bool, as_json: bool, **rest: Any) -> Any:
        work = {name: rest.pop(name) for name in ("force", "executor", "max_ram_gb")}
        return command(Stage(changes, quiet, as_json, **work), **rest)

    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object."),
        click.option("--quiet", is_flag=True, help="Show neither progress nor notes."),
        click.option(
            "--executor",
            default="serial",
            show_default=True,
            metavar="serial|threads:N|dask:ADDRESS|dask:local:N",
            help="Who works on the blocks: this process, its threads, or the workers of a Dask cluster.",
        ),
        click.option(
            "--max-ram",
            "max_ram_gb",
            type=float,
            metavar="GB",
            help="Memory to keep within; a stage that cannot says so before it begins.",
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


def parse_class(text: str) -> tuple[str, tuple[int, ...] | None]:
    """Return name and values of ``NAME``, ``NAME=1`` or ``NAME=1,2``."""
    name, equals, values = text.partition("=")
    try:
        return name.strip(), tuple(int(value) for value in values.split(",")) if equals else None
    except ValueError as error:
        raise UsageError(f"--class {text!r}: expected NAME or NAME=1,2 with whole numbers") from error


def parse_group(text: str) -> tuple[str, tuple[Path, ...]]:
    """Return name and projects of ``NAME=PROJECT,PROJECT``."""
    name, equals, projects = text.partition("=")
    paths = tuple(Path(one.strip()) for one in projects.split(",") if one.strip())
    if not equals or not name.strip() or not paths:
        raise UsageError(f"--group {text!r}: expected NAME=PROJECT,PROJECT such as old=bx1,bx2")
    return name.strip(), paths


def parse_slices(text: str | None, option: str = "slices") -> tuple[int, ...] | None:
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
        raise UsageError(f"--{option} {text!r}: expected numbers and ranges such as 0,6,13 or 0-9,20") from error
    return tuple(slices)


def score_table(scores: Mapping[str, Any]) -> str:
    """Return the scores of every class as lines of text."""
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
