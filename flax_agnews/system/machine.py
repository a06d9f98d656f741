"""The machine's memory and cores, and whether its processor supports bfloat16 (Linux: /proc/cpuinfo)."""

import os
from pathlib import Path

_BFLOAT16 = {"flags": {"avx512_bf16", "amx_bf16"}, "Features": {"bf16"}}  # x86 and ARM: any of these


def machine_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cores() -> int:
    """Number of cores that this process may use, by which XLA divides its work."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpuinfo() -> str:
    """The content of Linux's /proc/cpuinfo; empty on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return ""


def lacks_bfloat16(text: str) -> bool:
    """Whether a processor has no bfloat16 matrix instructions, so that bfloat16 is slower than float32 on it.

    Args:
        text: the result of `cpuinfo`; if it lists no instructions, as on some processors, the answer is False.
    """
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    flags = [(key.strip(), set(value.split())) for key, value in pairs if key.strip() in _BFLOAT16]
    return any(not has & _BFLOAT16[key] for key, has in flags)
