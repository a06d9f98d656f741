"""The commit, date, machine and versions that a measurement was made with."""

import datetime
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"


def circumstances() -> dict[str, Any]:
    """Commit (with `+` where the package has uncommitted changes), date, processor and versions."""
    return {
        "commit": (_git("rev-parse", "--short", "HEAD") or "unknown")
        + ("+" if _git("status", "--porcelain", "flax_agnews") else ""),
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "flax", "optax", "numpy")},
    }


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:  # a machine without git
        return ""


def _processor() -> str:
    import os

    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
