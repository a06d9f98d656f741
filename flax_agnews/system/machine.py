"""The machine: its memory, and what its processor can multiply (Linux: /proc/cpuinfo)."""

import os
from pathlib import Path

_BFLOAT16 = {"flags": {"avx512_bf16", "amx_bf16"}, "Features": {"bf16"}}  # x86 and ARM: any of these


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpuinfo() -> str:
    """What Linux says of the processors; empty on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return ""


def lacks_bfloat16(text: str) -> bool:
    """Whether some processor multiplies no bfloat16 matrices itself, so that it is slower in them than in float32.

    Args:
        text: of `cpuinfo`; False for one that says nothing of that, as on other kinds of processors.
    """
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    flags = [(key.strip(), set(value.split())) for key, value in pairs if key.strip() in _BFLOAT16]
    return any(not has & _BFLOAT16[key] for key, has in flags)
