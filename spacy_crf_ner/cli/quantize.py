"""`crf-ner quantize`: a trained pipeline in int8."""

import tempfile
import time
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
import spacy
import typer
from spacy.language import Language
from spacy.tokens import Doc
from tqdm import tqdm
from wasabi import msg

from ..corpora.files import CorpusError
from ..corpora.formats import read_docs
from .errors import clear_errors


@clear_errors
def quantize(
    model: Path = typer.Argument(..., help="A trained pipeline: a folder that spacy.load takes."),
    output: Path = typer.Argument(..., help="Folder to write the quantized pipeline to."),
    data: Optional[Path] = typer.Option(
        None,
        "--data",
        help="Texts like those it will be used on: a .spacy file, or a text file with a document a line. Default: the "
        "training corpus that the pipeline's config names.",
    ),
    documents: int = typer.Option(
        2000, "--documents", help="So many of them are used, at least 4; three quarters to fit."
    ),
) -> None:
    """Turn a pipeline's encoder into 8-bit integers, for prediction on CPUs; the rest stays as it is.

    Entities of a quarter of the texts, which were not used to fit, are compared before and after.
    """
    from ..deployment.quantize import quantize as quantize_pipeline
    from ..deployment.quantize import same_entities
    from ..embedding.int8 import works

    if not (model / "config.cfg").is_file():
        raise CorpusError(f"{model}: there is no pipeline (a folder with config.cfg and meta.json).")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CorpusError(f"{output}: it is there already. Name a folder that is not there yet.")
    if documents < 4:
        raise CorpusError(f"--documents {documents}: at least 4 are needed.")
    nlp = spacy.load(model)
    source = data or _training_corpus(nlp)
    texts = _texts(source, nlp, documents)
    if not works():
        msg.warn("This processor has no instructions for int8: the pipeline is written, but runs in float32 here.")
    parts = texts[0::4], [text for i, text in enumerate(texts) if i % 4]
    before, seconds_before = _predict(nlp, parts[0], "Before")
    quantize_pipeline(nlp, [nlp.make_doc(text) for text in parts[1]])
    after, seconds_after = _predict(nlp, parts[0], "After")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        nlp.to_disk(Path(folder) / "pipeline")
        if output.is_dir():
            output.rmdir()
        (Path(folder) / "pipeline").rename(output)
    shared, n_before, n_after = same_entities(before, after)
    msg.text(
        f"In {len(parts[0]):,} documents of {source} that were not used to fit: {n_before:,} entities before, "
        f"{n_after:,} after, {shared:,} of them the same; {sum(map(len, before)) / seconds_before:,.0f} words a second "
        f"before, {sum(map(len, after)) / seconds_after:,.0f} after."
    )
    if seconds_after > seconds_before:
        msg.warn(
            "On this machine it is no faster than the pipeline that it was made of. Where a processor has bfloat16, "
            'precision = "bf16" is as fast as int8, and needs no second pipeline.'
        )
    msg.good(f"Wrote {output}.")
    # not by wasabi, which would wrap what is to be copied
    compared = f"python -m spacy crf-ner evaluate {output} DATA --compare {model} --output scores"
    typer.echo(f"Compare the two on annotated documents with: {compared}")


def _training_corpus(nlp: Language) -> Path:
    named = nlp.config.interpolate().get("paths", {}).get("train")
    if not named or not str(named).endswith(".spacy") or not Path(named).is_file():
        raise CorpusError(
            f"The training corpus that the pipeline's config names ({named}) is not a .spacy file that is there. Give "
            "texts like those that the pipeline will be used on with --data."
        )
    return Path(named)


def _texts(path: Path, nlp: Language, n: int) -> List[str]:
    """Texts drawn evenly from a file."""
    if path.is_dir():
        raise CorpusError(f"{path}: it is a folder. Give a .spacy file, or a text file with a document a line.")
    if path.suffix == ".spacy":
        found = [doc.text for doc in read_docs(path, nlp.vocab)]
    else:
        found = path.read_text(encoding="utf-8").splitlines()
    found = [text for text in found if text.strip()]
    if len(found) < 4:
        raise CorpusError(f"{path}: it has {len(found)} texts, and at least 4 are needed.")
    chosen = np.linspace(0, len(found) - 1, min(n, len(found))).round().astype(int)
    return [found[i] for i in chosen]


def _predict(nlp: Language, texts: List[str], name: str) -> Tuple[List[Doc], float]:
    docs = [nlp.make_doc(text) for text in texts]
    list(nlp.pipe(doc.copy() for doc in docs))  # what is made once, and remembered
    begin = time.perf_counter()
    found = list(tqdm(nlp.pipe(docs), desc=name, total=len(docs), unit=" documents", disable=None))
    return found, time.perf_counter() - begin
