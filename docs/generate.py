"""Write the reference pages from the code: ``python docs/generate.py``.

The pages are committed; a test fails when they differ from what the code says now.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import cristae
from cristae.cli import cli
from cristae.phantom.settings import PhantomSettings
from cristae.stages.adapt import AdaptSettings
from cristae.stages.advise import AdviseSettings
from cristae.stages.align import AlignSettings
from cristae.stages.anatomy import AnatomySettings
from cristae.stages.cells_settings import CellsSettings
from cristae.stages.changes import ImportChangesSettings
from cristae.stages.check import CheckSettings
from cristae.stages.compare import CompareSettings
from cristae.stages.doctor import DoctorSettings
from cristae.stages.equalise import EqualiseSettings
from cristae.stages.evaluate import EvaluateSettings
from cristae.stages.exporting import ExportSettings
from cristae.stages.importing import ImportImageSettings, ImportLabelsSettings
from cristae.stages.measure import MeasureSettings
from cristae.stages.mesh import MeshSettings
from cristae.stages.objects import ObjectsSettings
from cristae.stages.predict import PredictSettings
from cristae.stages.quality import QualitySettings
from cristae.stages.render_settings import RenderSettings
from cristae.stages.samples import SampleSettings
from cristae.stages.study_cells import StudyCellsSettings
from cristae.stages.study_networks import StudyNetworksSettings
from cristae.stages.track import TrackSettings
from cristae.stages.train_settings import PRESETS, TrainSettings
from cristae.stages.workload import PlanSettings

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/generate.py; change the code, then run: python docs/generate.py -->"
WIDTH = 100
"""Columns of a help text."""

STAGES: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("check", CheckSettings, "Used by `cristae check`."),
    ("align", AlignSettings, "Used by `cristae align`."),
    ("equalise", EqualiseSettings, "Used by `cristae equalise`."),
    ("train", TrainSettings, "Used by `cristae train`, `cristae run` and `cristae evaluate --cross-validate`."),
    ("adapt", AdaptSettings, "Used by `cristae adapt`."),
    ("predict", PredictSettings, "Used by `cristae predict` and `cristae run`."),
    ("cells", CellsSettings, "Used by `cristae cells` and `cristae run`."),
    ("track", TrackSettings, "Used by `cristae track` and `cristae run`."),
    ("objects", ObjectsSettings, "Used by `cristae objects` and `cristae run`."),
    ("anatomy", AnatomySettings, "Used by `cristae anatomy` and `cristae run`; `cristae.find_parents` in Python."),
    ("evaluate", EvaluateSettings, "Used by `cristae evaluate` and `cristae run`."),
    ("measure", MeasureSettings, "Used by `cristae measure` and `cristae run`."),
    ("mesh", MeshSettings, "Used by `cristae mesh`, and by `cristae render` for the surfaces it shows."),
    ("render", RenderSettings, "Used by `cristae render`."),
    ("advise", AdviseSettings, "Used by `cristae advise`."),
    ("quality", QualitySettings, "Used by `cristae quality`."),
    ("doctor", DoctorSettings, "Used by `cristae doctor`."),
    ("study_networks", StudyNetworksSettings, "Used by `cristae study`, with those of `train`."),
    ("study_cells", StudyCellsSettings, "Used by `cristae study cells`."),
    ("compare", CompareSettings, "Used by `cristae compare`."),
    (
        "plan",
        PlanSettings,
        "Keywords of `cristae.plan`; options on the command line. What is left out is as the project has it.",
    ),
    ("phantom", PhantomSettings, "Used by `cristae phantom`."),
    ("sample", SampleSettings, "Used by `cristae sample`."),
    ("import image", ImportImageSettings, "Keywords of `cristae.import_image`; options on the command line."),
    (
        "import labels",
        ImportLabelsSettings,
        "Keywords of `cristae.import_labels` and `cristae.import_truth`; options on the command line.",
    ),
    (
        "import changes",
        ImportChangesSettings,
        "Keywords of `cristae.import_changes`; options on the command line.",
    ),
    ("export", ExportSettings, "Keywords of `cristae.export`; options on the command line."),
)
_WORDS = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text", NoneType: "none"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_SETTINGS = re.compile(r"settings are those of `(?:cristae\.phantom\.)?(\w+)`", re.IGNORECASE)


def pages() -> dict[Path, str]:
    """Return path and text of every generated page."""
    return {
        DOCS / "reference" / "cli.md": command_page(),
        DOCS / "reference" / "api.md": api_page(),
        DOCS / "howto" / "settings.md": settings_page(),
    }


def command_page() -> str:
    """Return the page of the command line: the help text of every command."""
    parts = [f"# Command line\n\n{NOTE}\n\nWhat `cristae COMMAND --help` prints, for all commands."]
    for names, command in _commands(("cristae",), cli):
        context = click.Context(
            command,
            info_name=" ".join(names),
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            help_option_names=cli.context_settings.get("help_option_names"),
        )
        parts.append(f"## {' '.join(names)}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts) + "\n"


def _commands(names: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield names, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _commands((*names, name), command.commands[name])


def api_page() -> str:
    """Return the page of the Python interface: every public name with its signature and docstring."""
    public = [(name, getattr(cristae, name)) for name in cristae.__all__]
    groups = {
        "Functions": [(name, one) for name, one in public if inspect.isfunction(one)],
        "Classes": [(name, one) for name, one in public if inspect.isclass(one) and not issubclass(one, Exception)],
        "Errors": [(name, one) for name, one in public if inspect.isclass(one) and issubclass(one, Exception)],
    }
    parts = [
        f"# Python interface\n\n{NOTE}\n\nEverything here is imported from `cristae`. Settings are explained in "
        "[Settings](../howto/settings.md), the use of it all in [Use it from Python](../howto/python.md)."
    ]
    for title, members in groups.items():
        parts.append(f"## {title}")
        for name, one in members:
            parts.append(_describe(name, one))
    values = [(name, one) for name, one in public if not callable(one)]
    parts.append("## Values")
    parts += [f"### {name}\n\n`{name} = {one!r}`: value of voxels that nobody looked at." for name, one in values]
    return "\n\n".join(parts) + "\n"


def _describe(name: str, one: Any) -> str:
    lines = [f"### {name}"]
    if not (inspect.isclass(one) and issubclass(one, Exception)):
        lines.append(f"```text\n{_signature(name, one)}\n```")
    lines.append(_markdown(inspect.getdoc(one) or ""))
    if inspect.isclass(one):
        rows = [
            f"| `{_member(key, value)}` | {_first_sentence(value)} |"
            for key, value in vars(one).items()
            if not key.startswith("_") and _first_sentence(value)
        ]
        if rows:
            lines.append("| member | what it is |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(lines)


def _signature(name: str, one: Any) -> str:
    text = f"{name}{inspect.signature(one)}".replace("'", "").removesuffix(" -> None")
    text = re.sub(r"<function (\w+) at \w+>", r"\1", text)
    if len(text) <= WIDTH:
        return text
    inside, _, after = text.partition("(")[2].rpartition(")")
    arguments = re.split(r", (?![^\[(]*[\])])", inside)
    return f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){after}"


def _member(key: str, value: Any) -> str:
    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if isinstance(value, property) or not callable(function):
        return key
    names = [one for one in inspect.signature(function).parameters if one not in ("self", "cls")]
    return f"{key}({', '.join(names)})"


def _first_sentence(value: Any) -> str:
    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if not (isinstance(value, property) or inspect.isfunction(function)):
        return ""
    return (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _markdown(text: str) -> str:
    """Turn a numpydoc docstring into Markdown: sections become bold words, entries become lists."""
    text = _SETTINGS.sub(lambda found: f"{found[0]} ([Settings](../howto/settings.md))", text)
    blocks = re.split(r"\n*^(\w[\w ]*)\n-{3,}\n", text, flags=re.MULTILINE)
    parts = [blocks[0].strip().replace("``", "`")]
    for title, body in zip(blocks[1::2], blocks[2::2], strict=True):
        entries = re.split(r"\n(?=\S)", body.strip("\n"))
        parts.append(f"**{title}**")
        parts.append("\n".join(_entry(entry) for entry in entries))
    return "\n\n".join(parts)


def _entry(entry: str) -> str:
    head, _, rest = entry.partition("\n")
    meaning = " ".join(textwrap.dedent(rest).split()).replace("``", "`")
    return f"- `{head}`: {meaning}" if meaning else f"- {head.replace('``', '`')}"


def settings_page() -> str:
    """Return the page of settings: a table per stage, then the presets."""
    parts = [
        f"# Settings\n\n{NOTE}\n\nEvery setting has a default. Change only what you need, in one of three ways:",
        "- for one command: `--set train.updates=2000` (repeat it for more);\n"
        "- for good: write it into `project.toml` under `[settings.train]`;\n"
        '- in Python: as a keyword, `cristae.train("bx1", updates=2000)`.',
        "The command wins over the project file, the project file over the preset, the preset over the default. "
        "Values are written as in TOML: `3`, `0.5`, `true`, `[1, 2]`; `none` switches a setting off where it may be "
        "none. The complete settings of a run stand in its `settings.toml`.",
        "Lengths in px are pixels as the network sees them, after slices were reduced. Lengths in nm are real lengths.",
    ]
    for stage, kind, words in STAGES:
        rows = [_row(name, one) for name, one in kind.model_fields.items()]
        head = "| setting | default | value | meaning |\n|---|---|---|---|\n"
        parts.append(f"## {stage}\n\n{words}\n\n{head}" + "\n".join(rows))
    return "\n\n".join([*parts, _presets()]) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
    bounds = [
        f"{sign} {getattr(one, key):g}" for one in field.metadata for key, sign in _BOUNDS.items() if hasattr(one, key)
    ]
    kind = ", ".join([_kind(field.annotation), *bounds])
    meaning = (field.description or "").removesuffix(".").replace("|", "\\|")
    return f"| `{name}` | {default} | {kind} | {meaning} |"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if value == "":
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        inside = (str(one) if isinstance(one, str) else f"{one:g}" for one in value)
        return f"`[{', '.join(inside)}]`" if value else "empty"
    return f"`{value}`"


def _kind(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(inner[0])
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin in (Union, UnionType):
        return " or ".join(_kind(one) for one in inner)
    if origin is tuple:
        count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        several = "" if get_origin(inner[0]) in (Literal, tuple) else "s"
        return f"list of {count}{_kind(inner[0])}{several}".replace("texts", "names")
    if origin is dict:
        return "per name: " + _kind(inner[1])
    return _WORDS[kind]


def _presets() -> str:
    parts = ["## Presets of train", "`--preset NAME` or `--set train.preset=NAME`. What is not listed is the default."]
    for name, changes in PRESETS.items():
        listed = ", ".join(f"`{key} = {_value(value).strip('`')}`" for key, value in changes.items())
        parts.append(f"**{name}**: {listed or 'the defaults'}.")
    return "\n\n".join(parts)


def main() -> int:
    """Write all pages."""
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
