"""Settings from layers of changes: defaults, presets, project file, command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cristae.errors import UsageError

Settings = TypeVar("Settings", bound=BaseModel)


def resolve_settings(kind: type[Settings], *layers: Mapping[str, Any]) -> Settings:
    """Return settings of a stage from layers of changes to its defaults, later layers winning.

    Raises
    ------
    UsageError
        If a name is unknown or a value out of bounds.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        raise UsageError(f"{kind.__name__}: {explain(error)}. Settings are: {known}") from error


def explain(error: ValidationError) -> str:
    """Return in one line which settings are wrong, and what was given."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}, got {problem['input']!r}"
        for problem in error.errors()
    )
