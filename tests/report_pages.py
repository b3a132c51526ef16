"""Reading the report's page: its words without the bytes and the script that it holds."""

from __future__ import annotations

import re
from pathlib import Path


def words_of(path: Path) -> str:
    """Return the source of a page without what scripts hold and without pictures."""
    source = path.read_text(encoding="utf-8")
    source = re.sub(r"(<script[^>]*>).*?(</script>)", r"\1\2", source, flags=re.DOTALL)
    return re.sub(r'"data:[^",]*,[^"]*"', '"data:,"', source)
