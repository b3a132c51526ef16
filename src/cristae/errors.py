"""What can go wrong, by who can mend it. Every message names what was expected, what came, and the next step."""

from __future__ import annotations


class CristaeError(Exception):
    """Anything cristae refuses with a sentence instead of a traceback; ``exit_code`` is the command's status."""

    exit_code = 1


class UsageError(CristaeError):
    """A wrong name, option or setting."""

    exit_code = 2


class DataError(CristaeError):
    """Files or arrays that are not what they should be."""

    exit_code = 3


class ResourceError(CristaeError):
    """Too little disk, memory or hardware, a folder that cannot be written, or a project that is in use."""

    exit_code = 4
