"""Corpora for `[corpora]`, straight from annotation files."""

import random
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.augment import dont_augment
from spacy.util import logger

from ..context import set_context, with_neighbours
from .document import Document, Report
from .files import CorpusError
from .formats import Options, read, read_table
from .label_studio import LabelStudio as LabelStudioOptions
from .placing import ALL_ENTITIES, Alignment, Discontinuous, Placing, SpanSetter, to_doc
from .records import Naming
from .standoff import read_standoff

Augmenter = Callable[[Language, Example], Iterable[Example]]
T = TypeVar("T")


def Standoff(
    path: Path,
    *,
    span_setter: SpanSetter = ("ents", ALL_ENTITIES),
    alignment: Alignment = "expand",
    discontinuous: Discontinuous = "skip",
    limit: int = 0,
    sample: Optional[int] = None,
    seed: int = 0,
    augmenter: Optional[Augmenter] = None,
) -> Callable[[Language], Iterable[Example]]:
    """Read a brat folder as a corpus.

    path (Path): Folder with .txt and .ann files; folders in it are read too.
    span_setter (Union[str, List[str], Dict[str, ...]]): Where entities go: "ents" or the name of a span group; a list
        of such names; or such names each with true or with a list of the labels that go there, and labels each with the
        one name where they go. Entities whose label goes nowhere are left out, with a count.
    alignment (str): What becomes of an entity that begins or ends inside a token: "expand": it is widened to whole
        tokens; "contract": it shrinks to those that it covers; "strict": it is left out.
    discontinuous (str): What becomes of one in several parts: "skip": it is left out; "merge": one entity from the
        first character to the last; "split": an entity for each part; "first": its first part alone.
    limit (int): Most documents, 0: all. As in spaCy, each may become several examples if `augmenter` makes several.
    sample (Optional[int]): So many documents drawn at random, the same for the same `seed`, in the order that they
        have in the corpus; null: all. With `limit` the first of these.
    seed (int): For `sample`.
    augmenter (Optional[Callable]): spaCy's data augmentation: from nlp and an example to examples.
    RETURNS (Callable): From nlp to its examples.
    RAISES (CorpusError): When it is read: see `corpora.standoff.read_standoff`.
    """
    placing = Placing(span_setter, alignment, discontinuous)
    return _reader("Standoff", path, read_standoff, placing, limit, sample, seed, augmenter)


def Columns(
    path: Path,
    *,
    encoding: str = "utf-8",
    columns: Sequence[int] = (),
    sentences: int = 1,
    span_setter: SpanSetter = ("ents", ALL_ENTITIES),
    limit: int = 0,
    sample: Optional[int] = None,
    seed: int = 0,
    augmenter: Optional[Augmenter] = None,
) -> Callable[[Language], Iterable[Example]]:
    """Read files of columns (CoNLL) as a corpus, with the tokens that they have.

    path (Path): A file, a folder of files, a .gz or a .zip.
    encoding (str): Of the files.
    columns (List[int]): Column of the tokens, then those of the tags, from 0, or from the end as -1; empty: found out.
    sentences (int): Sentences that make a document, where the file does not mark documents; 0: all of a file.
    span_setter, limit, sample, seed, augmenter: See `Standoff`.
    RETURNS (Callable): From nlp to its examples.
    RAISES (CorpusError): When it is read: see `corpora.columns.read_columns`.
    """
    options = Options(encoding, columns, sentences)
    documents = partial(read, name="columns", options=options)
    placing = Placing(span_setter)
    return _reader("Columns", path, documents, placing, limit, sample, seed, augmenter)


def Jsonl(
    path: Path,
    *,
    encoding: str = "utf-8",
    keys: Optional[Dict[str, str]] = None,
    tag_names: Sequence[str] = (),
    spans: str = "",
    span_setter: SpanSetter = ("ents", ALL_ENTITIES),
    alignment: Alignment = "expand",
    discontinuous: Discontinuous = "skip",
    limit: int = 0,
    sample: Optional[int] = None,
    seed: int = 0,
    augmenter: Optional[Augmenter] = None,
) -> Callable[[Language], Iterable[Example]]:
    """Read JSON lines or JSON as a corpus, in any of the layouts that `convert` knows, with tokens where it has them.

    path (Path): A file, a folder of files, a .gz or a .zip.
    encoding (str): Of the files.
    keys (Optional[Dict[str, str]]): What text, spans, tokens, tags, relations, id, group are called in records; what is
        not named is found out.
    tag_names (List[str]): Names of tags that are numbers, in their order.
    spans (str): Of JSON of Docs: "ents" or a span group; empty: the group "entities", where there is one.
    span_setter, alignment, discontinuous, limit, sample, seed, augmenter: See `Standoff`.
    RETURNS (Callable): From nlp to its examples, which are read one by one.
    RAISES (CorpusError): When it is read: see `corpora.jsonl.read_jsonl`.
    """
    options = Options(encoding, naming=Naming(keys or {}, tag_names, spans))
    placing = Placing(span_setter, alignment, discontinuous)
    documents = partial(read, name="jsonl", options=options)
    return _reader("Jsonl", path, documents, placing, limit, sample, seed, augmenter)


def Tables(
    path: Path,
    *,
    encoding: str = "utf-8",
    keys: Optional[Dict[str, str]] = None,
    tag_names: Sequence[str] = (),
    span_setter: SpanSetter = ("ents", ALL_ENTITIES),
    alignment: Alignment = "expand",
    discontinuous: Discontinuous = "skip",
    limit: int = 0,
    sample: Optional[int] = None,
    seed: int = 0,
    augmenter: Optional[Augmenter] = None,
) -> Callable[[Language], Iterable[Example]]:
    """Read CSV, TSV, Parquet, or a data set of Hugging Face's `datasets` as a corpus, with tokens where it has them.

    path (Path): A file, or a folder of files or of a data set. Parquet and data sets need the extra "tables".
    encoding (str): Of CSV and TSV.
    keys, tag_names: See `Jsonl`; keys are names of columns here.
    span_setter, alignment, discontinuous, limit, sample, seed, augmenter: See `Standoff`.
    RETURNS (Callable): From nlp to its examples, which are read one by one.
    RAISES (CorpusError): When it is read: it is no table, or see `corpora.tables`.
    """
    options = Options(encoding, naming=Naming(keys or {}, tag_names))
    placing = Placing(span_setter, alignment, discontinuous)
    documents = partial(read_table, options=options)
    return _reader("Tables", path, documents, placing, limit, sample, seed, augmenter)


def LabelStudio(
    path: Path,
    *,
    annotators: str = "first",
    predictions: str = "none",
    offsets: str = "auto",
    text_key: str = "",
    labelling_config: Optional[Path] = None,
    encoding: str = "utf-8",
    span_setter: SpanSetter = ("ents", ALL_ENTITIES),
    alignment: Alignment = "expand",
    discontinuous: Discontinuous = "skip",
    limit: int = 0,
    sample: Optional[int] = None,
    seed: int = 0,
    augmenter: Optional[Augmenter] = None,
) -> Callable[[Language], Iterable[Example]]:
    """Read exports of Label Studio as a corpus.

    path (Path): A file (JSON, JSON_MIN, CSV or TSV), a folder of files, a .gz or a .zip.
    annotators (str): Of several annotations of a task: "first": the one that was completed first; "all"; "majority":
        entities that more than half of them have. "first" and "majority" read only ground truth, where there is any.
    predictions (str): Models' predictions: "none"; "missing": the newest of tasks without annotation; "all".
    offsets (str): How characters are counted: "auto": found out; "code-points"; "utf-16".
    text_key (str): Key of the tasks' data that holds the text; "": all that are annotated.
    labelling_config (Optional[Path]): The project's labelling configuration, which says which text is where.
    encoding (str): Of the files.
    span_setter, alignment, discontinuous, limit, sample, seed, augmenter: See `Standoff`.
    RETURNS (Callable): From nlp to its examples.
    RAISES (CorpusError): A setting is none of these; when it is read: see `corpora.label_studio.read_label_studio`.
    """
    config = Path(labelling_config) if labelling_config is not None else None
    options = Options(encoding, label_studio=LabelStudioOptions(annotators, predictions, offsets, text_key, config))
    documents = partial(read, name="label_studio", options=options)
    placing = Placing(span_setter, alignment, discontinuous)
    return _reader("LabelStudio", path, documents, placing, limit, sample, seed, augmenter)


def _reader(
    name: str,
    path: Optional[Path],
    documents: Callable[[Path], Iterator[Document]],
    placing: Placing,
    limit: int,
    sample: Optional[int],
    seed: int,
    augmenter: Optional[Augmenter],
) -> "AnnotationReader":
    """The corpus that a registered reader makes. RAISES (CorpusError): It has no path, or a setting is wrong."""
    if path is None:
        raise CorpusError(f"spacy_crf_ner.{name}.v1 has no path. Set it with --paths.train and --paths.dev.")
    return AnnotationReader(Path(path), documents, placing, limit, sample, seed, augmenter or dont_augment)


class AnnotationReader:
    """A corpus of Documents of any format; see `Standoff`."""

    def __init__(
        self,
        path: Path,
        documents: Callable[[Path], Iterator[Document]],
        placing: Placing,
        limit: int,
        sample: Optional[int],
        seed: int,
        augmenter: Augmenter,
    ) -> None:
        if limit < 0:
            raise CorpusError(f"{path}: limit = {limit} must not be negative; 0 means all.")
        if sample is not None and sample < 1:
            raise CorpusError(f"{path}: sample = {sample} must be at least 1, or null for all documents.")
        self._path = path
        self._read = documents
        self._placing = placing
        self._limit = limit
        self._sample = sample
        self._seed = seed
        self._augmenter = augmenter
        # documents that the last report was about
        self._reported = 0

    def __call__(self, nlp: Language) -> Iterator[Example]:
        # texts are training data, however long; the limit that spaCy sets is for what users send in
        nlp.max_length = max(nlp.max_length, 10**9)
        report = Report(listing=lambda problem: None)
        try:
            yield from self._examples(nlp, report)
        finally:
            # also when nobody reads to the end; what looks at the first documents alone does not keep others from it
            if report.kinds and report.documents > self._reported:
                self._reported = report.documents
                logger.warning("%s: %s", self._path, "\n".join(report.summary()))

    def _examples(self, nlp: Language, report: Report) -> Iterator[Example]:
        for document in islice(self._documents(), self._limit or None):
            reference = to_doc(document, nlp.make_doc, self._placing, report)
            # tokens that the file has are those that the pipeline gets
            words, spaces = [t.text for t in reference], [bool(t.whitespace_) for t in reference]
            tokens = Doc(nlp.vocab, words=words, spaces=spaces) if document.tokens else nlp.make_doc(reference.text)
            yield from self._augmenter(nlp, Example(tokens, reference))

    def _documents(self) -> Iterable[Document]:
        documents = self._read(self._path)
        if self._sample is None:
            return documents
        return draw(documents, self._sample, self._seed)


def draw(items: Iterable[T], n: int, seed: int) -> List[T]:
    """Draw `n` items at random, each as likely as any other, without holding more than these.

    RETURNS (List[T]): In their own order; all of them where there are no more than `n`.

    Vitter's algorithm R (Random Sampling with a Reservoir, 1985).
    """
    chance = random.Random(seed)
    drawn: List[Tuple[int, T]] = []
    for number, item in enumerate(items):
        if number < n:
            drawn.append((number, item))
            continue
        place = chance.randrange(number + 1)
        if place < n:
            drawn[place] = (number, item)
    return [item for _, item in sorted(drawn, key=lambda pair: pair[0])]


def DocumentContext(
    corpus: Callable[[Language], Iterable[Example]],
    *,
    words: int = 64,
    source: Optional[str] = None,
    augmenter: Optional[Augmenter] = None,
) -> Callable[[Language], Iterable[Example]]:
    """Give the documents of another corpus their neighbours as context: sentences, say, those around them.

    The encoder reads the context and nothing else sees it; it is stored with the Doc (`doc.user_data`). In a script use
    `spacy_crf_ner.context.add_context`.

    corpus (Callable): Any reader, whose documents come in the order of their source.
    words (int): spaCy tokens on each side; of them the encoder gets as many as fit into its window.
    source (Optional[str]): Key of `doc.user_data` that says which source a document is from; documents of different
        sources, and those without the key, are no neighbours. null: all are of one source.
    augmenter (Optional[Callable]): spaCy's data augmentation. It belongs here and not to `corpus`, where what it makes
        of a document would become its neighbour.
    RETURNS (Callable): From nlp to its examples.
    RAISES (ValueError): words is less than 1.
    """
    if words < 1:
        raise ValueError(f"spacy_crf_ner.DocumentContext.v1: words = {words} must be at least 1.")
    return ContextReader(corpus, words, source, augmenter or dont_augment)


class ContextReader:
    """See `DocumentContext`."""

    def __init__(
        self,
        corpus: Callable[[Language], Iterable[Example]],
        words: int,
        source: Optional[str],
        augmenter: Augmenter,
    ) -> None:
        self._corpus = corpus
        self._words = words
        self._source = source
        self._augmenter = augmenter

    def __call__(self, nlp: Language) -> Iterator[Example]:
        alone = True
        found = with_neighbours(self._corpus(nlp), self._words, self._source, lambda example: example.reference)
        for example, before, after in found:
            alone = alone and not before and not after
            for made in self._augmenter(nlp, example):
                set_context(made.reference, before, after)
                set_context(made.predicted, before, after)
                yield made
        if alone:
            logger.warning(
                "spacy_crf_ner.DocumentContext.v1: no document has a neighbour, so none has context. Is source = %r "
                "the key of doc.user_data that says which source a document is from?",
                self._source,
            )
