"""The extended training loop beside spaCy's own, on the same batches.

    python benchmarks/loop.py TRAIN [--steps 60] [--rounds 3] [--config FILE] [--precision fp32]

TRAIN is a .spacy file. Both loops train the same configuration from the same seed, in turns, with one evaluation, of a
single document. spaCy's writes nothing; what the extended one writes as it goes, its lines of metrics, counts;
pipelines do not, nor does what comes at the end, a checkpoint and curves. Prints one JSON line: words a second of each,
medians over rounds, the ratio, and seconds that a training takes to end.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

import spacy
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from timing import machine

from spacy_crf_ner.training.loop import Training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs/transformer_cnn_crf.cfg")
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    seconds: Dict[str, List[float]] = {"spacy": [], "extended": []}
    endings: List[float] = []
    words = 0
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        docs = list(DocBin().from_disk(options.train).get_docs(spacy.blank("xx").vocab))
        DocBin(docs=docs[:1]).to_disk(f"{folder}/dev.spacy")
        settings: Dict[str, Any] = {
            "paths.train": str(options.train),
            "paths.dev": f"{folder}/dev.spacy",
            "components.crf_ner.model.tok2vec.precision": options.precision,
            "training.eval_frequency": 10**6,
            "training.max_steps": options.steps,
            "training.optimizer.warmup_steps": 5,
        }
        config = spacy.util.load_config(options.config, overrides=settings, interpolate=False)
        for i in range(options.rounds + 1):
            nlp = init_nlp(config)
            begin = time.perf_counter()
            spacy_train(nlp, stdout=nowhere, stderr=nowhere)
            spent = {"spacy": time.perf_counter() - begin}
            nlp = init_nlp(config)
            output = Path(folder) / f"run{i}"
            output.mkdir()
            begin = time.perf_counter()
            training = Training(nlp, output)
            with _timed(training, "_save", "_finish") as (saving, finishing):
                training.run(nowhere, nowhere)
            spent["extended"] = time.perf_counter() - begin - sum(finishing) - sum(saving)
            words = training.progress.words
            if i:
                endings += finishing
                for name, value in spent.items():
                    seconds[name].append(value)
    rates = {name: words / statistics.median(values) for name, values in seconds.items()}
    result = {name: round(rate) for name, rate in rates.items()}
    result_line = {
        "benchmark": "loop",
        "machine": machine(),
        "precision": options.precision,
        "steps": options.steps + 1,
        **result,
        "ratio": round(rates["extended"] / rates["spacy"], 3),
        "seconds_to_end": round(statistics.median(endings), 2),
    }
    print(json.dumps(result_line))


@contextlib.contextmanager
def _timed(training: Training, *names: str) -> Any:
    """Seconds that calls of methods take, a list each; calls that others of them make count as theirs."""
    spent: List[List[float]] = [[] for _ in names]
    busy: List[str] = []

    def timed(name: str, seconds: List[float]) -> Any:
        method = getattr(training, name)

        def call(*args: Any) -> Any:
            busy.append(name)
            begin = time.perf_counter()
            try:
                return method(*args)
            finally:
                busy.pop()
                if not busy:
                    seconds.append(time.perf_counter() - begin)

        return call

    for name, seconds in zip(names, spent):
        setattr(training, name, timed(name, seconds))
    yield spent


if __name__ == "__main__":
    main()
