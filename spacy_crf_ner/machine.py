"""What this machine and its Python have."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Dict, Optional, Sequence

PACKAGES = ("spacy-crf-ner", "spacy", "spacy-transformers", "thinc", "torch", "transformers", "cupy-cuda12x")


def versions(packages: Sequence[str] = PACKAGES) -> Dict[str, Optional[str]]:
    """Versions by the names of packages; None: it is not installed."""
    found: Dict[str, Optional[str]] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def processor() -> str:
    """Name of the processor's model; where the system does not say, of its architecture."""
    path = Path("/proc/cpuinfo")
    rows = path.read_text(errors="replace").splitlines() if path.is_file() else []
    names = (row.partition(":")[2].strip() for row in rows if row.lower().startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> Dict[str, int]:
    """Bytes, from the kernel: MemTotal, MemAvailable; empty where it does not say."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
            return {}
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return {"MemTotal": total, "MemAvailable": total}
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def resident() -> int:
    """Bytes of memory that this process holds now; where the system does not say, the most that it has held."""
    path = Path("/proc/self/statm")
    if path.is_file():
        return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if platform.system() == "Darwin" else most * 1024
