"""Run benchmarks: ``python -m benchmarks`` lists rows, ``python -m benchmarks NAME [--quick] [--json]`` runs one."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import ROWS
from benchmarks.result import machine, peak_memory_mb
from cristae.allocation import wait_asleep

RESULTS = Path(__file__).parent / "results"
TABLE = Path(__file__).parent / "RESULTS.md"


def main() -> int:
    """Parse the command line and do what it says."""
    wait_asleep()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=ROWS, help="row to run; without one the rows are listed")
    parser.add_argument("--quick", action="store_true", help="a small version that shows that the row works")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--all", action="store_true", help="run every row and rewrite results and table")
    parser.add_argument("--save", action="store_true", help="keep the result of this row and rewrite the table")
    arguments = parser.parse_args()
    if arguments.all:
        failed = [name for name in ROWS if _run_apart(name)]
        write_table()
        return 1 if failed else 0
    if arguments.name is None:
        for name in ROWS:
            print(f"{name:22} {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').splitlines()[0]}")
        return 0
    result = measure(arguments.name, arguments.quick)
    if arguments.save and not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{arguments.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        write_table()
    print(json.dumps(result) if arguments.json else _in_words(result))
    return 0


def measure(name: str, quick: bool) -> dict[str, Any]:
    """Run one row and return its JSON object."""
    begun = time.monotonic()
    result = importlib.import_module(f"benchmarks.{name}").run(quick)
    return {
        **dataclasses.asdict(result),
        "peak_memory_mb": peak_memory_mb(),
        "seconds": round(time.monotonic() - begun, 1),
        "quick": quick,
        "command": f"python -m benchmarks {name}" + (" --quick" if quick else ""),
        "machine": machine(),
    }


def write_table() -> None:
    """Write ``RESULTS.md`` from the committed results."""
    lines = [
        "# Benchmark results",
        "",
        "Written by `make bench` from `benchmarks/results/*.json`, which hold seeds, splits and the command of",
        "each row, and more. A row that does not reach its target is shown as it is.",
        "",
        "| row | value | target | holds | baseline | ratio | peak memory | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    machines: dict[str, None] = {}
    for name in ROWS:
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            lines.append(f"| `{name}` | not measured | | | | | | |")
            continue
        row = json.loads(path.read_text())
        holds = {True: "yes", False: "**no**", None: "–"}[row["holds"]]
        lines.append(
            f"| `{name}` | {_figure(row['value'])} {row['unit']} | {row['target']} | {holds} | "
            f"{_figure(row['baseline'])} | {_figure(row['ratio'])} | {row['peak_memory_mb']:.0f} MB | "
            f"{row['seconds']:.0f} s |"
        )
        at = row["machine"]
        machines[
            f"{name}: {at['processor']}, {at['cores']} cores, {at['memory_gb']} GB, {at['system']}, {at['date']}, "
            f"commit {at['commit']}"
        ] = None
    lines += ["", "## What was measured", ""]
    for name in ROWS:
        path = RESULTS / f"{name}.json"
        if path.is_file():
            lines += _notes(json.loads(path.read_text()))
    lines += ["## Machines", "", *(f"- {text}" for text in machines)]
    TABLE.write_text("\n".join(lines) + "\n")


def _notes(row: dict[str, Any]) -> list[str]:
    words = (importlib.import_module(f"benchmarks.{row['name']}").__doc__ or "").strip()
    lines = [f"### {row['name']}", "", words, ""]
    if row["split"]:
        lines += [f"- split: {row['split']}", f"- seeds: {', '.join(map(str, row['seeds']))}"]
    lines += [f"- {key.replace('_', ' ')}: {_detail(value)}" for key, value in row["details"].items()]
    return [*lines, ""]


def _detail(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_detail(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_detail(one) for one in value) + "]"
    return _figure(value) if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _in_words(result: dict[str, Any]) -> str:
    holds = {True: "holds", False: "does NOT hold", None: "no target"}[result["holds"]]
    lines = [f"{result['name']}: {_figure(result['value'])} {result['unit']} (target {result['target']}: {holds})"]
    if result["baseline"] is not None:
        lines.append(f"baseline {_figure(result['baseline'])}, ratio {_figure(result['ratio'])}")
    lines.append(f"{result['seconds']} s, peak memory {result['peak_memory_mb']} MB")
    lines += [f"  {key}: {_detail(value)}" for key, value in result["details"].items()]
    return "\n".join(lines)


def _run_apart(name: str) -> int:
    """Run one row in a process of its own, so that its peak memory is its own."""
    print(f"--- {name}", flush=True)
    return subprocess.run([sys.executable, "-m", "benchmarks", name, "--save"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
