"""Reading annotations: documents a second from brat to .spacy, beside a peer's; peak memory of large JSONL files.

    python benchmarks/corpora.py FOLDER [--peer PYTHON] [--rounds 5] [--megabytes 10 100 1000] [--targets jsonl …]

FOLDER holds brat's files. PYTHON is that of an environment with EDS-NLP; the two take turns, each in a process of its
own; seconds are the processor's, without imports. JSONL files are made in a temporary folder, of 200,000 words as
frequent as those of languages; `convert` runs in a process of its own, whose most resident memory the system tells.
Prints one JSON line.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List

OURS = """
import json, sys, time, spacy
from pathlib import Path
from spacy.tokens import DocBin
from spacy_crf_ner.corpora.standoff import read_standoff
from spacy_crf_ner.corpora.placing import to_doc
nlp = spacy.blank("en")
begin = time.process_time()
binary = DocBin(store_user_data=True)
n_entities = 0
for document in read_standoff(Path(sys.argv[1])):
    doc = to_doc(document, nlp.make_doc)
    n_entities += len(doc.spans["entities"])
    binary.add(doc)
binary.to_disk(sys.argv[2])
print(json.dumps([len(binary), n_entities, time.process_time() - begin]))
"""
PEERS = """
import json, sys, time, spacy, edsnlp
from spacy.tokens import DocBin
nlp = spacy.blank("en")
begin = time.process_time()
binary = DocBin(store_user_data=True)
n_entities = 0
for doc in edsnlp.data.read_standoff(sys.argv[1], nlp=nlp, span_setter={"ents": True, "entities": True}):
    n_entities += len(doc.spans["entities"])
    binary.add(doc)
binary.to_disk(sys.argv[2])
print(json.dumps([len(binary), n_entities, time.process_time() - begin]))
"""
CONVERT = """
import resource, sys, time
import spacy_crf_ner.cli.app
from spacy.cli._util import app
begin = time.perf_counter()
try:
    app(["crf-ner", "convert", *sys.argv[1:]], standalone_mode=False)
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, time.perf_counter() - begin)
"""


def speeds(folder: Path, peer: str, rounds: int) -> Dict[str, Any]:
    """Documents a second of both, medians of alternating rounds after one to warm up."""
    programs = {"ours": (sys.executable, OURS), **({"eds": (peer, PEERS)} if peer else {})}
    seconds: Dict[str, List[float]] = {name: [] for name in programs}
    found: Dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as output:
        if peer:
            folder = entities_alone(folder, Path(output) / "brat")
        for i in range(rounds + 1):
            for name, (python, program) in programs.items():
                n_documents, n_entities, took = json.loads(
                    run([python, "-c", program, str(folder.resolve()), f"{output}/{name}.spacy"], output).splitlines()[
                        -1
                    ]
                )
                found[name] = {"documents": n_documents, "entities": n_entities}
                seconds[name] += [took] if i else []
    for name, took in seconds.items():
        found[name]["documents_per_second"] = round(found[name]["documents"] / statistics.median(took), 1)
    return found


def entities_alone(folder: Path, copy: Path) -> Path:
    """A copy of a brat folder with its text-bound lines alone: EDS-NLP stops at notes on events."""
    for path in sorted(folder.rglob("*.*")):
        if path.suffix in (".txt", ".ann"):
            to = copy / path.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_bytes().splitlines(keepends=True)
            to.write_bytes(b"".join(line for line in lines if path.suffix == ".txt" or line.startswith(b"T")))
    return copy


def run(command: List[str], folder: str) -> str:
    """What a program prints. folder (str): Where it runs: not here, where Python would find our plugin for the peer."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def lines(megabytes: float) -> Iterator[str]:
    """Records of about two kilobytes, until there are so many."""
    numbers = random.Random(0)
    written = number = 0
    while written < megabytes * 1e6:
        words = [f"word{int(200_000 ** numbers.random())}" for _ in range(180)]
        spans, at = [], 0
        for i, word in enumerate(words):
            if i % 12 == 0:
                spans.append({"start": at, "end": at + len(word), "label": "ABC"[i // 12 % 3]})
            at += len(word) + 1
        line = json.dumps({"id": f"d{number}", "text": " ".join(words), "spans": spans, "meta": {"n": number}}) + "\n"
        written += len(line)
        number += 1
        yield line


def memory(megabytes: float, targets: List[str]) -> Dict[str, Any]:
    """Most resident memory of `convert` of a JSONL file, in MB, and its seconds."""
    ways = {"jsonl": ["out.jsonl"], "columns": ["out", "--to", "columns"], "spacy": ["out.spacy"]}
    ways |= {"shards": ["out", "--shard", "1000"], "standoff": ["out", "--to", "standoff"]}
    found = {}
    for target in targets:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in.jsonl"
            with source.open("w") as file:
                file.writelines(lines(megabytes))
            name, *more = ways[target]
            told = run([sys.executable, "-c", CONVERT, str(source), f"{folder}/{name}", *more], folder)
            peak, seconds = map(float, told.split()[-2:])
            found[target] = {"peak_mb": round(peak), "seconds": round(seconds, 1)}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--targets", nargs="*", default=["jsonl", "shards"])
    arguments = parser.parse_args()
    result = {
        "benchmark": "corpora",
        "corpus": arguments.folder.name,
        **(speeds(arguments.folder, arguments.peer, arguments.rounds) if arguments.rounds else {}),
        "memory": {f"{size:g} MB": memory(size, arguments.targets) for size in arguments.megabytes},
    }
    print(json.dumps(result))
