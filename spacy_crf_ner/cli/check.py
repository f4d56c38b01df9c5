"""`crf-ner check`: what this machine has for training and prediction."""

import platform
from typing import Dict, List, Tuple

from wasabi import msg

from ..machine import memory, processor, versions

GB = 1e9


def check() -> None:
    """Tell versions, processor, memory and GPUs, and which precision suits them."""
    packages = {name: found or "not installed" for name, found in versions().items()}
    msg.table({"Python": platform.python_version(), **packages}, title="Versions", header=("package", "version"))
    msg.table(dict(_processor()), title="Processor")
    gpus = _gpus()
    for i, (name, facts) in enumerate(gpus):
        msg.table(facts, title=f"GPU {i}: {name}")
    if not gpus:
        msg.info("There is no GPU that torch can use.")
    elif packages["cupy-cuda12x"] == "not installed":
        msg.warn("spaCy needs CuPy to use a GPU: pip install spacy-crf-ner[cuda].")
    else:
        msg.info("To train on a GPU: --gpu-id 0.")


def _processor() -> List[Tuple[str, str]]:
    import torch

    from ..embedding.int8 import works
    from ..embedding.precision import cpu_has_bf16

    facts = [("name", processor()), ("threads", str(torch.get_num_threads()))]
    has = memory()
    if has:
        facts.append(("memory", f"{has['MemTotal'] / GB:.1f} GB, {has['MemAvailable'] / GB:.1f} GB free"))
    precisions = ["fp32", *(["bf16"] if cpu_has_bf16() else [])]
    facts.append(("precision in training", " or ".join(precisions) + f": {precisions[-1]} is the fastest"))
    if works():
        precisions.append("int8, after crf-ner quantize")
    facts.append(("precision in prediction", " or ".join(precisions)))
    return facts


def _gpus() -> List[Tuple[str, Dict[str, str]]]:
    import torch

    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        native = torch.cuda.get_device_capability(i) >= (8, 0)
        facts = {
            "memory": f"{total / GB:.1f} GB, {free / GB:.1f} GB free",
            "precision": "bf16" if native else "fp16 (it has no bfloat16 arithmetic)",
        }
        found.append((torch.cuda.get_device_name(i), facts))
    return found
