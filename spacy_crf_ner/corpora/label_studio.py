"""Label Studio's exports: JSON and JSON_MIN, CSV and TSV, `completions` of old versions, and storage targets, which
hold a file for each annotation.

https://labelstud.io/guide/export. Offsets count code points in today's versions, and UTF-16 units, as JavaScript does,
in those of 2021 and before; which it is, and whether it is so, is seen from the text that each result quotes.
"""

import csv
import io
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from .document import Document, Entity, Link
from .files import STANDARD, CorpusError, TextFile, readable, text_files
from .json_stream import CHUNK, json_values, storable
from .label_studio_config import Configuration, read_configuration
from .label_studio_regions import (
    Region,
    TaskLog,
    find_unit,
    is_region,
    name_of,
    number_of,
    place,
    read_region,
    simplified,
    text_of,
)
from .offsets import CODE_POINTS, UTF_16, Offsets

ANNOTATORS = ("first", "all", "majority")
PREDICTIONS = ("none", "missing", "all")
OFFSETS = ("auto", CODE_POINTS, UTF_16)
# Key of Document.data: what a Document cannot say of the task and its results, for the writer.
INFO = "label_studio"
# What JSON_MIN and CSV say of an annotation, beside the task's data.
OF_ANNOTATION = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "history"}
# Values of a result that say something of an entity or a task rather than where it is.
PLACE = {"start", "end", "startOffset", "endOffset", "globalOffsets"}
# Characters of a value from which it is seen whether a file is an export, and files of a folder that are looked at.
LARGEST, LOOKED_AT = 50_000_000, 20


@dataclass(frozen=True)
class LabelStudio:
    """What a user can say of Label Studio's files.

    annotators (str): Of several annotations of a task: "first": the one that was completed first; "all": each, so that
        what several annotators have said is there several times, with the annotator as origin; "majority": entities
        that more than half of them have. "first" and "majority" read only ground truth, where a task has any.
    predictions (str): Models' predictions: "none"; "missing": the newest one of tasks without annotation; "all": each,
        beside the annotations. Their origin is the model's version.
    offsets (str): How characters are counted: "auto": seen from what results quote; "code-points", "utf-16".
    text (str): Key of the task's data that is read; "": all that are annotated.
    configuration (Optional[Path]): The project's labelling configuration, an XML file.
    from_name, to_name (str): Of results that are written: names of the tags that label, and of the text.
    model_version (str): Of predictions that are written; "": that of the entities.
    as_annotations (bool): Entities are written as annotations, not predictions.
    RAISES (CorpusError): A setting is none of these.
    """

    annotators: str = "first"
    predictions: str = "none"
    offsets: str = "auto"
    text: str = ""
    configuration: Optional[Path] = None
    from_name: str = ""
    to_name: str = ""
    model_version: str = ""
    as_annotations: bool = False

    def __post_init__(self) -> None:
        known = {"annotators": ANNOTATORS, "predictions": PREDICTIONS, "offsets": OFFSETS}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise CorpusError(f'{name} = "{getattr(self, name)}" is not one of {", ".join(values)}.')


def is_label_studio(path: Path) -> bool:
    """Whether a path holds an export, whatever it is called."""
    if path == STANDARD or not path.exists() or path.suffix == ".spacy":
        return False
    files = text_files(path)
    for _ in range(LOOKED_AT):
        try:
            begun = _Begun(next(files).text)
            if begun.is_json():
                _, value = next(json_values(begun, "", LARGEST), (0, None))
                if isinstance(value, dict) and _is_export(value):
                    return True
            elif begun.columns():
                return True
        except StopIteration:
            break
        except (CorpusError, UnicodeError, OSError, EOFError, zlib.error):
            continue
    return False


def _is_export(value: Mapping[str, Any]) -> bool:
    if isinstance(value.get("data"), dict):
        return any(isinstance(value.get(key), list) for key in ("annotations", "completions", "predictions"))
    return _is_stored(value) or _is_min(value)


def _is_stored(value: Mapping[str, Any]) -> bool:
    return "result" in value and "task" in value


def _is_min(value: Mapping[str, Any]) -> bool:
    return "annotation_id" in value and ("annotator" in value or "lead_time" in value)


# Files to tasks


def may_be_export(sample: str) -> bool:
    """Whether a file that begins so may be an export, or the labelling configuration beside one."""
    begun = _Begun(io.StringIO(sample))
    return not sample.strip() or begun.is_json() or bool(begun.columns()) or begun.start.lstrip().startswith("<")


class _Begun:
    """A text file whose beginning can be looked at before it is read, also where it cannot be read twice."""

    def __init__(self, text: Any) -> None:
        self._text = text
        self.start = text.read(CHUNK)

    def read(self, size: int = -1) -> str:
        found, self.start = self.start, ""
        return found + self._text.read() if size < 0 else found or self._text.read(size)

    def is_json(self) -> bool:
        return self.start.lstrip()[:1] in ("[", "{")

    def columns(self) -> str:
        """What separates the columns of a CSV or TSV export; "": it is none."""
        header = self.start.lstrip().split("\n")[0]
        separator = "\t" if "\t" in header else ","
        names = {name.strip().strip('"') for name in header.split(separator)}
        return separator if _is_min(dict.fromkeys(names)) else ""


class _Found(NamedTuple):
    """A task. file (str): Where it stands. number (int): The how manieth of the file. name (str): What it is called
    where it has no id. value (Any): What is there."""

    file: str
    number: int
    name: str
    value: Any

    def where(self) -> str:
        id = _id(self.value.get("id")) if isinstance(self.value, dict) else ""
        return f"{self.file}, task {id}" if id else f"{self.file}, task no. {self.number}"


def _id(value: Any) -> str:
    return str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""


def _tasks(path: Path, encoding: str) -> Iterator[_Found]:
    """All tasks of a path, in one form; annotations that have files of their own come last, by task."""
    stored: Dict[str, _Found] = {}
    for file in text_files(path, encoding=encoding, is_data=may_be_export):
        with readable(file.name, encoding):
            pending: Optional[_Found] = None
            for found in _records(file, path.is_dir() or path.suffix.lower() == ".zip"):
                record = found.value
                if isinstance(record, dict) and _is_stored(record) and isinstance(record["task"], dict):
                    _join(stored, found._replace(value=_of_storage(record)))
                    continue
                if isinstance(record, dict) and _is_min(record) and "data" not in record:
                    found = found._replace(value=_of_min(record))
                    if pending is not None and _id(record.get("id")) and pending.value["id"] == record.get("id"):
                        pending.value["annotations"] += found.value["annotations"]
                        continue
                    if pending is not None:
                        yield pending
                    pending = found
                    continue
                yield found
            if pending is not None:
                yield pending
    yield from stored.values()


def _join(stored: Dict[str, _Found], found: _Found) -> None:
    id = _id(found.value.get("id")) or found.name
    if id in stored:
        stored[id].value["annotations"] += found.value["annotations"]
    else:
        stored[id] = found


def _records(file: TextFile, in_folder: bool) -> Iterator[_Found]:
    begun = _Begun(file.text)
    if begun.is_json():
        values: Iterable[Tuple[int, Any]] = json_values(begun, file.name)
    elif begun.columns():
        values = _rows(begun, begun.columns(), file.name)
    elif in_folder and begun.start.lstrip().startswith("<"):
        return  # the labelling configuration
    else:
        raise CorpusError(
            f"{file.name}: it is no export of Label Studio. Export JSON, JSON_MIN, CSV or TSV; of a folder, take away "
            "what is none."
        )
    for number, value in values:
        yield _Found(file.name, number, f"{file.stem}-{number:06}", value)


def _rows(begun: _Begun, separator: str, name: str) -> Iterator[Tuple[int, Any]]:
    """Rows of a CSV export as records of JSON_MIN."""
    rows = csv.DictReader(io.StringIO(begun.read(), newline=""), delimiter=separator)
    number = 0
    while True:
        number += 1
        # how long a text may be is a setting of the whole process
        limit = csv.field_size_limit(2**31 - 1)
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise CorpusError(f"{name}: its line {rows.line_num} is not CSV ({error}).") from error
        finally:
            csv.field_size_limit(limit)
        if row is None:
            return
        yield (
            number,
            {str(key).removeprefix("_data_"): _cell(value) for key, value in row.items() if value not in ("", None)},
        )


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("[{", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass  # a text in brackets
    return value


def _of_storage(record: Dict[str, Any]) -> Dict[str, Any]:
    annotation = {key: value for key, value in record.items() if key != "task"}
    return {**record["task"], "annotations": [annotation]}


def _of_min(record: Dict[str, Any]) -> Dict[str, Any]:
    """A record of JSON_MIN as a task with one annotation: lists of regions are its results, all else is data."""
    data, results = {}, []
    for key, value in record.items():
        if key in OF_ANNOTATION:
            continue
        if (
            isinstance(value, list)
            and value
            and all(isinstance(v, dict) and {"start", "end"} <= v.keys() for v in value)
        ):
            for region in value:
                kind = next((k for k in region if k.endswith("labels")), None)
                kind = kind or next((k for k in region if k not in PLACE and k != "text"), "textarea")
                results.append({"from_name": key, "type": kind, "value": region})
        else:
            data[key] = value
    annotation = {
        "id": record.get("annotation_id"),
        "completed_by": record.get("annotator"),
        "created_at": record.get("created_at"),
        "result": results,
    }
    return {"id": record.get("id"), "data": data, "annotations": [annotation]}


# Tasks to documents


def read_label_studio(path: Path, encoding: str = "utf-8", settings: LabelStudio = LabelStudio()) -> Iterator[Document]:
    """Read exports of Label Studio.

    path (Path): A file, a folder, a .gz, a .zip, or "-". encoding (str): Of the files.
    YIELDS (Document): A task, or one for each of its texts that are annotated, which then are of one group. Without
        annotation it is not annotated. Data beside the text, and what was said of the task, is in its data.
    RAISES (CorpusError): A file is no export, or no task has a text.
    """
    configuration = read_configuration(settings.configuration) if settings.configuration else Configuration()
    reader = _Reader(settings, configuration)
    taken: Set[str] = set()
    # problems of tasks without a document go to the next one, or to the last
    carried = TaskLog("")
    last: List[Document] = []
    for found in _tasks(path, encoding):
        log = TaskLog(found.where(), carried.problems, carried.unread)
        try:
            documents = reader.documents(found, log)
        except RecursionError:
            log.remark("malformed task", "it is nested too deeply.")
            documents = []
        if not documents:
            carried = log
            continue
        carried = TaskLog("")
        for document in documents:
            document.id = _unique(document.id, taken, log)
            taken.add(document.id)
        documents[0].problems, documents[0].unread = log.problems, log.unread
        yield from last
        last = documents
    if carried.problems and not last:
        more = f" And {len(carried.problems) - 1:,} more." if len(carried.problems) > 1 else ""
        raise CorpusError(f"No task could be read. First: {carried.problems[0]}{more}")
    if last:
        last[-1].problems += carried.problems
        last[-1].unread += carried.unread
    yield from last


def _unique(id: str, taken: Set[str], log: TaskLog) -> str:
    if id not in taken:
        return id
    number = 2
    while f"{id}-{number}" in taken:
        number += 1
    log.remark("task id used twice", f"another task has the id {id} too: this one became {id}-{number}.")
    return f"{id}-{number}"


class _Reader:
    """settings: See there. configuration: Which text is which key of the data; what it does not say is found out."""

    def __init__(self, settings: LabelStudio, configuration: Configuration) -> None:
        self._settings = settings
        self._keys = dict(configuration.texts)

    def documents(self, found: _Found, log: TaskLog) -> List[Document]:
        """Documents of a task; none, and a problem, where it has no text."""
        task = storable(found.value)
        if task != found.value:
            log.remark("values that cannot be kept", "halves of characters became U+FFFD, too large numbers texts.")
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            log.remark("malformed task", 'it is no task: it has no "data".')
            return []
        data = task["data"]
        said = self._said(task, log)
        texts = self._texts(data, said or [], log)
        if not texts:
            return []
        # what we wrote comes back under its own name
        name = _id(data.get("document_id")) or _id(task.get("id")) or found.name
        made: Dict[str, Document] = {}
        keys = [*dict.fromkeys(texts.values())]
        for to_name, key in texts.items():
            same = next((made[other] for other in made if texts[other] == key), None)
            if same is not None:
                made[to_name] = same
                continue
            document = Document(f"{name}-{key}" if len(keys) > 1 else name, data[key], source=log.where)
            document.group = name if len(keys) > 1 else _id(data.get("group"))
            document.annotated = said is not None
            document.data = {k: v for k, v in data.items() if k not in keys}
            document.data[INFO] = {"key": key, "to_name": to_name}
            document.data[INFO].update({k: task[k] for k in ("id", "meta") if task.get(k) not in (None, {})})
            made[to_name] = document
        if said is None:
            log.remark("task without annotation", "nobody has annotated it: it counts as not annotated.")
        else:
            _Filler(made, log, self._settings).fill(said)
        return [made[to_name] for to_name in _first_names(made)]

    def _said(self, task: Mapping[str, Any], log: TaskLog) -> Optional[List["_Annotation"]]:
        """Annotations and predictions that count. None: there are none."""
        annotations = _chosen(task, self._settings, log)
        said = [_read_annotation(annotation, _annotator(annotation), log) for annotation in annotations]
        wanted = self._settings.predictions
        if wanted == "all" or (wanted == "missing" and not said):
            predictions = _predictions(task, log)
            for prediction in predictions if wanted == "all" else predictions[-1:]:
                version = name_of(prediction, "model_version") or "prediction"
                said.append(_read_annotation(prediction, version, log))
                said[-1].is_model, said[-1].score = True, number_of(prediction.get("score"))
        return said or None

    def _texts(self, data: Mapping[str, Any], said: Sequence["_Annotation"], log: TaskLog) -> Dict[str, str]:
        """Key of the data for the name of each text that is to be read."""
        regions = [region for annotation in said for region in annotation.regions]
        self._name_texts(data, [region for region in regions if not region.to_name])
        guessed: Dict[str, str] = {}
        for name in dict.fromkeys(region.to_name for region in regions):
            if name not in self._keys:
                key = _key_that_fits(name, data, [region for region in regions if region.to_name == name])
                (self._keys if key else guessed)[name] = key or _likely_key(data)
        wanted = self._settings.text
        texts = {
            name: key
            for name, key in {**self._keys, **guessed}.items()
            if isinstance(data.get(key), str) and key == (wanted or key)
        }
        key = wanted or _likely_key(data)
        if not texts and isinstance(data.get(key), str):
            if key != "text" and not wanted:
                log.remark("text that was guessed", f'"{key}" was taken for the text. Name it with --text-key.')
            texts[key] = key
        elif not texts:
            of = f' "{wanted}"' if wanted else ""
            log.remark("task without text", f"its data has no text{of}. Name the key with --text-key.")
            for region in regions:
                log.lost("entity of a task without text", f"result {region.id} was left out.", len(region.labels))
        return texts

    def _name_texts(self, data: Mapping[str, Any], regions: Sequence[Region]) -> None:
        """JSON_MIN and CSV do not say which text is annotated: it is the one in which a control's quotes stand."""
        for from_name in dict.fromkeys(region.from_name for region in regions):
            here = [region for region in regions if region.from_name == from_name]
            key = _key_that_fits("", data, here) or _likely_key(data)
            for region in here:
                region.to_name = next((name for name, known in self._keys.items() if known == key), key)


def _first_names(made: Mapping[str, Document]) -> Iterator[str]:
    """A name for each document, of which one may have several."""
    seen: Set[int] = set()
    for name, document in made.items():
        if id(document) not in seen:
            seen.add(id(document))
            yield name


def _key_that_fits(name: str, data: Mapping[str, Any], regions: Sequence[Region]) -> str:
    """Key of the data that has the text's name, or else the text that regions quote; "": there is none."""
    if isinstance(data.get(name), str):
        return name
    fits: Counter = Counter()
    for key, text in data.items():
        if isinstance(text, str):
            offsets = Offsets(text)
            for region in regions:
                if region.quoted and region.start is not None and region.end is not None:
                    spans = (offsets.span(region.start, region.end, unit) for unit in (CODE_POINTS, UTF_16))
                    fits[key] += any(offsets.says(span, region.quoted) for span in spans)
    best = max(fits, key=lambda key: (fits[key], key == "text"), default="")
    return best if fits[best] else ""


def _likely_key(data: Mapping[str, Any]) -> str:
    """Where the text is likely to be: under "text", or else the longest; "": there is none."""
    texts = [key for key, value in data.items() if isinstance(value, str)]
    return "text" if "text" in texts else max(texts, key=lambda key: len(data[key]), default="")


# Annotations


def _chosen(task: Mapping[str, Any], settings: LabelStudio, log: TaskLog) -> List[Dict[str, Any]]:
    """Annotations of a task that count."""
    raw = task.get("annotations", task.get("completions"))
    if raw is not None and not isinstance(raw, list):
        log.lost("malformed annotation", "its annotations are no list.")
    found = []
    for number, annotation in enumerate(raw if isinstance(raw, list) else [], start=1):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result") or [], list):
            log.lost("malformed annotation", f"annotation no. {number} has no list of results.")
        elif annotation.get("was_cancelled") or annotation.get("skipped"):
            log.remark("cancelled annotation", f"annotation {_called(annotation)} was skipped by its annotator.")
        else:
            found.append(annotation)
    truth = [annotation for annotation in found if annotation.get("ground_truth") is True]
    others: List[Dict[str, Any]] = []
    if settings.annotators != "all" and truth:
        others, found = [annotation for annotation in found if annotation not in truth], truth
    if settings.annotators == "first":
        found.sort(key=_created)
        found, others = found[:1], others + found[1:]
    if others:
        names = ", ".join(map(_called, others))
        log.remark("further annotation", f"annotations {names[:60]} were not read; --annotators all reads them.")
    return found


def _called(annotation: Mapping[str, Any]) -> str:
    return f"{name_of(annotation, 'id') or '?'} of {_annotator(annotation) or '?'}"


def _created(annotation: Mapping[str, Any]) -> str:
    """When it was created, to sort by: old versions have seconds, others a date."""
    created = annotation.get("created_at")
    seconds = number_of(created)
    return f"{seconds:020.3f}" if seconds is not None else text_of(annotation, "created_at")


def _annotator(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        return name_of(who, "email") or name_of(who, "id")
    return _id(who)


def _predictions(task: Mapping[str, Any], log: TaskLog) -> List[Dict[str, Any]]:
    """Predictions of a task, the newest last. Where an export only names them, those that annotators began with."""
    listed, annotations = (
        value if isinstance(value, list) else [] for value in (task.get("predictions"), task.get("annotations"))
    )
    begun = [one.get("prediction") for one in annotations if isinstance(one, dict)]
    known = {_id(one.get("id")): one for one in begun if isinstance(one, dict)}
    raw = [one if isinstance(one, dict) else known.get(_id(one)) for one in listed]
    found = [one for one in raw if one is not None and isinstance(one.get("result"), list)]
    if len(found) < len(raw):
        message = f"{len(raw) - len(found)} predictions are only named, or malformed: export them with their tasks."
        log.remark("prediction that is not there", message)
    return sorted(found, key=_created)


@dataclass
class _Annotation:
    """What one annotator, or model, has said of a task.

    who (str): The annotator, or the model's version. is_model (bool): Whether it is one. regions (List[Region]): Of all
        texts. about (List[Dict[str, Any]]): Results that say something of a region or of the task.
        relations (List[Dict[str, Any]]): As they came. score (Optional[float]): Of a prediction.
    """

    who: str
    is_model: bool = False
    regions: List[Region] = field(default_factory=list)
    about: List[Dict[str, Any]] = field(default_factory=list)
    relations: List[Dict[str, Any]] = field(default_factory=list)
    score: Optional[float] = None


def _read_annotation(annotation: Mapping[str, Any], who: str, log: TaskLog) -> _Annotation:
    read = _Annotation(who)
    for result in annotation.get("result") or []:
        if not isinstance(result, dict):
            log.lost("malformed result", f"annotation {_called(annotation)} has a result that is none.")
        elif result.get("type") == "relation":
            read.relations.append(result)
        elif is_region(result):
            region = read_region(result, log)
            if region is not None:
                read.regions.append(region)
        else:
            read.about.append(result)
    return read


@dataclass
class _Placed:
    """What an annotation says, by document.

    entities (List[Tuple[Document, Entity, Region]]): In order. links (List[Tuple[Document, Link]]): Between them.
    about (Dict[str, List[Dict[str, Any]]]): Results about an entity, by its id.
    classes (List[Tuple[Document, str, Any, Dict[str, Any]]]): What is said of a task: name, value and result.
    kept (List[Tuple[Document, Dict[str, Any]]]): Results that are only written back.
    """

    said: _Annotation
    entities: List[Tuple[Document, Entity, Region]] = field(default_factory=list)
    links: List[Tuple[Document, Link]] = field(default_factory=list)
    about: Dict[str, List[Dict[str, Any]]] = field(default_factory=dict)
    classes: List[Tuple[Document, str, Any, Dict[str, Any]]] = field(default_factory=list)
    kept: List[Tuple[Document, Dict[str, Any]]] = field(default_factory=list)


class _Filler:
    """Puts what annotations say into the documents of a task. made: These, by name of the text."""

    def __init__(self, made: Mapping[str, Document], log: TaskLog, settings: LabelStudio) -> None:
        self._made = made
        self._log = log
        self._settings = settings
        self._offsets = {id(document): Offsets(document.text) for document in made.values()}
        self._taken: Set[str] = set()

    def fill(self, said: Sequence[_Annotation]) -> None:
        placed = [self._place(annotation) for annotation in said]
        votes = [one for one in placed if not one.said.is_model]
        if self._settings.annotators == "majority" and len(votes) > 1:
            placed = [_majority(votes, self._log), *(one for one in placed if one.said.is_model)]
        for one in placed:
            for document, entity, region in one.entities:
                document.entities.append(entity)
                _note_region(document.data[INFO], entity, region, one.about.get(entity.id, []))
            for document, link in one.links:
                document.links.append(link)
            for document, result in one.kept:
                _keep(document, one.said.who, result)
            if one.said.score is not None:
                first = next(iter(self._made.values()))
                first.data[INFO].setdefault("scores", {})[one.said.who] = one.said.score
        self._classify(placed)

    def _place(self, said: _Annotation) -> _Placed:
        placed = _Placed(said)
        entities: Dict[str, List[Tuple[Document, Entity]]] = {}
        for document, regions in self._by_document(said.regions):
            offsets = self._offsets[id(document)]
            unit = find_unit(offsets, regions, self._settings.offsets, self._log)
            for region in regions:
                span = place(offsets, region, unit, self._log)
                for label in region.labels if span is not None else []:
                    assert span is not None
                    entity = Entity(label, [span], self._name(region.id), notes=[*region.notes], score=region.score)
                    entity.origin = said.who
                    placed.entities.append((document, entity, region))
                    if region.id:
                        entities.setdefault(region.id, []).append((document, entity))
        self._say(placed, entities)
        self._join(placed, entities)
        return placed

    def _by_document(self, regions: Sequence[Region]) -> List[Tuple[Document, List[Region]]]:
        found: Dict[int, Tuple[Document, List[Region]]] = {}
        for region in regions:
            document = self._made.get(region.to_name)
            if document is not None:
                found.setdefault(id(document), (document, []))[1].append(region)
            elif not self._settings.text:
                message = f'result {region.id or "?"} is of "{region.to_name}", which is no text of the data.'
                self._log.lost("region of another text", message, len(region.labels))
        return [*found.values()]

    def _name(self, id: str) -> str:
        """An id that no other entity of the task has."""
        number = 1
        name = id or "r1"
        while name in self._taken:
            number += 1
            name = f"{id}#{number}" if id else f"r{number}"
        self._taken.add(name)
        return name

    def _say(self, placed: _Placed, entities: Mapping[str, List[Tuple[Document, Entity]]]) -> None:
        """What is said of regions becomes attributes; what is said of the task, data."""
        for result in placed.said.about:
            name = text_of(result, "from_name") or text_of(result, "type") or "result"
            value = simplified(result)
            targets = entities.get(name_of(result, "id"), []) or _at(placed, result)
            if not targets:
                document = self._made.get(text_of(result, "to_name"), next(iter(self._made.values())))
                placed.classes.append((document, name, value, result))
            for _, entity in targets:
                if name in entity.attributes:
                    message = f"{entity.id} has a {name} already, which counts."
                    self._log.remark("attribute given twice", message)
                    continue
                # what our writer makes of a flag
                is_flag = value == name and text_of(result, "type") == "choices"
                entity.attributes[name] = True if is_flag else value
                placed.about.setdefault(entity.id, []).append(result)

    def _join(self, placed: _Placed, entities: Mapping[str, List[Tuple[Document, Entity]]]) -> None:
        for relation in placed.said.relations:
            ends = [entities.get(name_of(relation, key), [])[:1] for key in ("from_id", "to_id")]
            if not all(ends):
                names = f"{name_of(relation, 'from_id') or '?'} and {name_of(relation, 'to_id') or '?'}"
                self._log.remark("target that is not there", f"a relation joins {names}, of which not both were read.")
                continue
            (source, first), (target, last) = ends[0][0], ends[1][0]
            if source is not target:
                message = f"a relation joins {first.id} and {last.id}, of two texts: it is only written back."
                self._log.remark("relation between texts", message)
                placed.kept.append((source, relation))
                continue
            raw = relation.get("labels")
            labels = [label for label in raw if isinstance(label, str) and label] if isinstance(raw, list) else []
            attributes: Dict[str, Any] = {} if labels else {"labelled": False}
            direction = text_of(relation, "direction") or "right"
            attributes.update({} if direction == "right" else {"direction": direction})
            for label in labels or ["relation"]:
                link = Link("relation", label, [("Arg1", first.id), ("Arg2", last.id)], attributes=dict(attributes))
                placed.links.append((source, link))

    def _classify(self, placed: Sequence[_Placed]) -> None:
        """What annotators say of the task goes into the data: a value, or where they differ each one's."""
        found: Dict[Tuple[int, str], Tuple[Document, Dict[str, Any]]] = {}
        for one in placed:
            for document, name, value, result in one.classes:
                found.setdefault((id(document), name), (document, {}))[1][one.said.who] = value
                _keep(document, one.said.who, result)
        for (_, name), (document, values) in found.items():
            key = name
            while key in document.data:
                key += "_result"
            alike = len({_comparable(value) for value in values.values()}) == 1
            document.data[key] = next(iter(values.values())) if alike else values
            document.data[INFO].setdefault("classes", []).append(key)


def _at(placed: _Placed, result: Mapping[str, Any]) -> List[Tuple[Document, Entity]]:
    """Entities that stand where a result without id does: JSON_MIN has no ids."""
    value = result.get("value")
    if "id" in result or not isinstance(value, dict) or "start" not in value:
        return []
    ends = [value.get("start"), value.get("end")]
    return [(document, entity) for document, entity, region in placed.entities if [region.start, region.end] == ends]


def _comparable(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _keep(document: Document, who: str, result: Dict[str, Any]) -> None:
    document.data[INFO].setdefault("results", {}).setdefault(who, []).append(result)


def _note_region(info: Dict[str, Any], entity: Entity, region: Region, about: Sequence[Dict[str, Any]]) -> None:
    """Write down what an Entity cannot say, where it is not that of the first region of its text."""
    usual = {"from_name": region.from_name, "type": region.type, "more": region.more}
    for key, value in usual.items():
        info.setdefault(key, value)
    noted: Dict[str, Any] = {key: value for key, value in usual.items() if value != info[key]}
    if region.to_name != info["to_name"]:
        noted["to_name"] = region.to_name
    noted.update({key: value for key, value in (("meta", region.meta), ("value", region.value)) if value})
    if region.pages:
        noted["at"] = [*entity.fragments[0]]
    if about:
        noted["about"] = [*about]
    if noted:
        info.setdefault("regions", {})[entity.id] = noted


def _majority(votes: Sequence[_Placed], log: TaskLog) -> _Placed:
    """What more than half of several annotators say; of each thing the form that the first has given it."""
    who = f"majority of {len(votes)}"
    kept = _Placed(_Annotation(who))
    enough = len(votes) / 2

    def agreed(things: Callable[[_Placed], Iterable[Tuple[str, Any]]]) -> Iterator[Any]:
        counts: Counter = Counter()
        first: Dict[str, Any] = {}
        for one in votes:
            own = dict(things(one))
            counts.update(own.keys())
            for key, thing in own.items():
                first.setdefault(key, thing)
        for key, thing in first.items():
            if counts[key] > enough:
                yield thing

    def key_of(document: Document, entity: Entity) -> str:
        return _comparable([id(document), entity.label, entity.fragments])

    def entities(one: _Placed) -> Iterable[Tuple[str, Any]]:
        return ((key_of(document, entity), (document, entity, region)) for document, entity, region in one.entities)

    def links(one: _Placed) -> Iterable[Tuple[str, Any]]:
        keys = {entity.id: key_of(document, entity) for document, entity, _ in one.entities}
        for document, link in one.links:
            ends = [keys[name] for _, name in link.arguments]
            yield _comparable([link.label, link.attributes, ends]), (document, link, ends)

    def classes(one: _Placed) -> Iterable[Tuple[str, Any]]:
        return ((_comparable([id(said[0]), said[1], said[2]]), said) for said in one.classes)

    kept.entities = [*agreed(entities)]
    kept.classes = [*agreed(classes)]
    names: Dict[str, str] = {}
    for document, entity, _ in kept.entities:
        entity.origin = who
        names[key_of(document, entity)] = entity.id
    for document, link, ends in agreed(links):
        if all(end in names for end in ends):
            arguments = [(role, names[end]) for (role, _), end in zip(link.arguments, ends)]
            kept.links.append((document, Link(link.kind, link.label, arguments, attributes=link.attributes)))
    for one in votes:
        kept.about.update(one.about)
    gone = {key for one in votes for key, _ in entities(one)} - names.keys()
    if gone:
        log.remark("entity without majority", f"{len(gone)} entities have no majority among {len(votes)} annotators.")
    return kept
