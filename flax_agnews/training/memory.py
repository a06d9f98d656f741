"""Peak memory of a run, in bytes: the devices' own count, or the process's resident set on a CPU (Linux)."""

from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Starts the count anew where the system allows it (Linux, see proc(5)); a device's count can't be reset."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def peak_bytes(devices: Any) -> int | None:
    """The most that one device, or this process, has held since the reset; None where nobody counts."""
    counts = [
        stats["peak_bytes_in_use"] for d in devices if (stats := d.memory_stats()) and "peak_bytes_in_use" in stats
    ]
    if counts:
        return max(counts)
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
