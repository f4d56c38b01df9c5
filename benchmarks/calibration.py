"""How far a trained pipeline's probabilities can be trusted, before and after `crf-ner calibrate`.

    python benchmarks/calibration.py MODEL DATA [--splits 20] [--precision 0.9] [--confidence 0.9]

DATA are annotated documents that MODEL was not trained on. They are cut in halves at random, again and again: one half
calibrates, on the other everything is measured. Prints one JSON line; means over the splits:

    ece_before, ece_after     expected calibration error of entities, 10 bins of equal mass, in %
    ece_by_chance             what it would be after if all probabilities were exact, since the halves are finite
    error_before, _after      calibration error without what chance adds, in %
    cross_fitted              the same of all entities at once, each with the temperature of the other half
    log_loss_before, _after   nats
    temperature               mean and standard deviation
    certified                 in how many splits a threshold was found for the precision
    kept                      in how many of these the other half had at least that precision
    precision, share          of the other half: precision at the threshold, and share of the entities that is kept
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import spacy
from timing import machine

from spacy_crf_ner.corpora.document import Report
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.reading import read_examples
from spacy_crf_ner.crf.calibration import FIT_SHARE, Evidence, Fit, before_pipe, fit, promise, recogniser
from spacy_crf_ner.crf.confidence import Rules
from spacy_crf_ner.evaluation.calibration import calibration_error, ece, ece_if_exact, log_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--precision", type=float, default=0.9)
    parser.add_argument("--confidence", type=float, default=0.9)
    options = parser.parse_args()
    nlp = spacy.load(options.model)
    pipe = recogniser(nlp)
    examples = list(read_examples(nlp, options.data, Report()))
    evidence = Evidence(pipe, before_pipe(nlp, pipe, examples))
    found = [one_split(evidence, pipe.labels, options, seed) for seed in range(options.splits)]
    promises = [split.pop("promise") for split in found]
    result = {key: round(float(np.mean([split[key] for split in found])), 3) for key in found[0]}
    result["temperature_deviation"] = round(float(np.std([split["temperature"] for split in found])), 3)
    entities, right = len(evidence.best.p), int(evidence.best.right.sum())
    print(
        json.dumps(
            {
                "benchmark": "calibration",
                "machine": machine(),
                "model": options.model.parent.name,
                "entities": entities,
                "right": round(100 * right / entities, 1),
                **result,
                "promise": told([promised for promised in promises if promised], options),
            }
        )
    )


def one_split(evidence: Evidence, labels: Any, options: Any, seed: int) -> Dict[str, Any]:
    order = np.array(random.Random(seed).sample(range(evidence.documents), evidence.documents))
    half = order < evidence.documents / 2
    fits = [fit(evidence, documents, labels) for documents in (half, ~half)]
    before, after, other = evidence.at(Fit(1.0, {})), evidence.at(fits[0]), evidence.at(fits[1])
    out = ~half[before.document]
    crossed = np.where(out, after.p, other.p)
    p, q, right, every = before.p[out], after.p[out], before.right[out], before.right
    return {
        "ece_before": 100 * ece(p, right),
        "ece_after": 100 * ece(q, right),
        "ece_by_chance": 100 * ece_if_exact(q, right),
        "error_before": 100 * calibration_error(p, right),
        "error_after": 100 * calibration_error(q, right),
        "cross_fitted_ece": 100 * ece(crossed, every),
        "cross_fitted_ece_by_chance": 100 * ece_if_exact(crossed, every),
        "cross_fitted_error": 100 * calibration_error(crossed, every),
        "log_loss_before": log_loss(p, right),
        "log_loss_after": log_loss(q, right),
        "temperature": fits[0].temperature,
        "promise": one_promise(evidence, half, order < evidence.documents / 2 * FIT_SHARE, labels, options),
    }


def one_promise(evidence: Evidence, half: np.ndarray, first: np.ndarray, labels: Any, options: Any) -> Dict[str, float]:
    """What a half promises and the other keeps; empty where it promises nothing."""
    try:
        chosen, promised = promise(evidence, first, half & ~first, options.precision, options.confidence, False, labels)
    except CorpusError:
        return {}
    assert promised.overall is not None
    threshold = promised.overall.threshold
    reached = evidence.judge(Rules(threshold, chosen.temperature, {}, chosen.exponents))
    reached = reached.where(~half[reached.document])
    n = int((~half[evidence.best.document]).sum())
    return {"threshold": threshold, "precision": float(reached.right.mean()), "share": len(reached.p) / n}


def told(promises: List[Dict[str, float]], options: Any) -> Dict[str, Any]:
    return {
        "wanted": options.precision,
        "confidence": options.confidence,
        "certified": len(promises),
        "kept": sum(promised["precision"] >= options.precision for promised in promises),
        **{key: round(float(np.mean([promised[key] for promised in promises])), 3) for key in (promises or [{}])[0]},
    }


if __name__ == "__main__":
    main()
