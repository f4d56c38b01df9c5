"""`crf-ner suggest`: which documents to annotate next."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence

import srsly
import typer
from spacy.language import Language
from tqdm import tqdm

from ..corpora.document import Document, Report
from ..corpora.files import CorpusError
from ..corpora.formats import FORMATS, Format, Options, read
from ..corpora.placing import from_doc, to_doc
from ..corpora.reading import bare_doc
from .calibrate import load
from .errors import clear_errors, good
from .writing import write_documents, written

if TYPE_CHECKING:
    from ..crf.pipe import CRFEntityRecognizer


@clear_errors
def suggest(
    model: Path = typer.Argument(..., help="A trained pipeline: a folder that spacy.load takes."),
    texts: Path = typer.Argument(..., help="Texts in any format: a folder of .txt, a file with a document a line, …"),
    output: Optional[Path] = typer.Argument(
        None, help="File or folder to write the chosen documents to, with what the pipeline finds in them."
    ),
    n: int = typer.Option(100, "--n", help="How many documents to choose."),
    by: str = typer.Option("entropy", "--by", help="What they are unsure by: entropy, best, errors, margin."),
    per_token: bool = typer.Option(False, "--per-token", help="Divide that by the number of tokens."),
    spread: float = typer.Option(
        1.0, "--spread", help="Above 1: of so many times N that are least sure, the N that differ most."
    ),
    distance: str = typer.Option("vectors", "--distance", help="What differs: the pipeline's vectors, or words."),
    again: bool = typer.Option(False, "--again", help="Consider documents too that are annotated already."),
    source: str = typer.Option("", "--from", help=f"Format of TEXTS: {', '.join(FORMATS)}. Default: found out."),
    target: str = typer.Option("", "--to", help="Format of OUTPUT. Default: spacy where it ends so."),
    pipe: str = typer.Option("", "--pipe", help="Which crf_ner component, where there are several."),
    encoding: str = typer.Option("utf-8", "--encoding", help="Of texts and columns."),
) -> None:
    """Choose the documents whose annotation teaches a pipeline most: those that it is least sure of.

    Writes a JSON line for each to standard output, the first to annotate first.
    """
    from ..crf.calibration import recogniser
    from ..crf.uncertainty import MEASURES
    from ..deployment.suggest import DISTANCES
    from ..deployment.suggest import suggest as choose

    for option, value, known in (("--by", by, MEASURES), ("--distance", distance, DISTANCES)):
        if value not in known:
            raise CorpusError(f"{option} {value}: it is one of {', '.join(known)}.")
    for option, number in (("--n", n), ("--spread", spread)):
        if number < 1:
            raise CorpusError(f"{option} {number}: it must be at least 1.")
    if source and source not in FORMATS:
        raise CorpusError(f"--from {source}: the format is not one of {', '.join(FORMATS)}.")
    form = _format(output, target)
    nlp = load(model)
    nlp.max_length = 10**9
    component = recogniser(nlp, pipe)
    found = tqdm(read(texts, source, Options(encoding)), desc=f"Reading {texts}", unit=" documents", disable=None)
    everything = list(found)
    documents = [document for document in everything if document.text.strip() and (again or not document.annotated)]
    if not documents:
        raise CorpusError(
            f"{texts}: of {len(everything):,} documents none is left to annotate. Consider those that are annotated "
            "already with --again."
        )
    docs = [bare_doc(nlp, document) for document in documents]
    chosen = choose(nlp, docs, n, name=component.name, by=by, per_token=per_token, spread=spread, distance=distance)
    marked = [_annotated(nlp, component, documents[i], value, by) for i, value in chosen]
    if output is not None and form is not None:
        _write(nlp, form, marked, output, component.labels)
    for rank, document in enumerate(marked, start=1):
        line = {"rank": rank, "id": document.id, **document.data, "entities": len(document.entities)}
        typer.echo(srsly.json_dumps(line))
    passed = len(everything) - len(documents)
    about = f", {passed:,} annotated or empty ones passed over" if passed else ""
    good(f"Chose {len(marked):,} of {len(documents):,} documents{about}." + (f" Wrote {output}" if output else ""))


def _format(output: Optional[Path], target: str) -> Optional[Format]:
    """The format to write. RAISES (CorpusError): It cannot be written, or none is named."""
    writable = [name for name, form in FORMATS.items() if form.write or form.write_documents]
    if output is None:
        return None
    target = target or ("spacy" if output.suffix == ".spacy" else "")
    if target not in writable:
        what = f"--to {target}: it" if target else f"{output}: say with --to which format it is to have; it"
        raise CorpusError(f"{what} is one of {', '.join(writable)}.")
    return FORMATS[target]


def _annotated(nlp: Language, component: "CRFEntityRecognizer", document: Document, value: float, by: str) -> Document:
    """A document with what the pipeline finds in it."""
    doc = nlp(bare_doc(nlp, document))
    output, key = component.cfg["output_spans"], component.scores_key
    found = from_doc(doc, key if key is not None else output)
    origin = f"{nlp.meta['lang']}_{nlp.meta['name']}-{nlp.meta['version']}"
    for entity in found.entities:
        entity.origin = origin
    data = {**document.data, "uncertainty": round(value, 6), "by": by}
    return replace(document, entities=found.entities, links=[], annotated=True, problems=[], data=data, written=None)


def _write(nlp: Language, form: Format, documents: List[Document], output: Path, labels: Sequence[str]) -> None:
    """Write documents in any format, whole or not at all. labels: What annotators are to choose from."""
    if form.write_documents is not None:
        write_documents(form, documents, output, Options(labels=labels))
        return
    docs = [to_doc(document, nlp.make_doc, report=Report()) for document in documents]
    assert form.write is not None
    with written(output) as beside:
        form.write(docs, beside, Options())
