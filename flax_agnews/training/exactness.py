"""Records the machine and software versions, on which the last digits of a run's numbers depend."""

import os
from collections.abc import Mapping
from importlib.metadata import version

import jax

from flax_agnews import __version__
from flax_agnews.errors import listed
from flax_agnews.system.machine import cores, cpuinfo
from flax_agnews.training.parallel import Devices


def circumstances(devices: Devices) -> dict[str, str]:
    """Facts that must be unchanged for a resumed run to end bit-identical to an uninterrupted one, by name."""
    device, mode = devices.devices[0], f"{devices.mode}, fsdp" if devices.splits else devices.mode
    return {
        "cores": str(cores()),
        "processor": _processor(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "").strip(),
        "devices": f"{len(devices)} x {getattr(device, 'device_kind', device.platform)}, {mode}",
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "flax_agnews": __version__,
    }


def inexact(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """The reason why a run begun in other circumstances isn't exact any more; None if nothing differs."""
    changed = [name for name in now if before.get(name) != now[name]]
    changes = [f"{name} {_short(before.get(name, 'unknown'))}, now {_short(now[name])}" for name in changed]
    return f"not exact to the last digit any more, since it was begun with {listed(changes)}" if changes else None


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."


def _processor() -> str:
    """Processor model and its vector instructions, by which XLA and oneDNN choose kernels."""
    if not (lines := cpuinfo().splitlines()):
        import platform

        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", facts.get("Features", "")).split()
    wide = [flag for flag in sorted(flags) if flag.startswith(("avx", "amx", "fma", "sve", "bf16", "asimd"))]
    return " ".join([facts.get("model name", ""), *wide]).strip()
