"""Tasks to documents."""

from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Set

from ..document import Document
from ..files import CorpusError
from ..json_stream import NOT_KEPT
from ..offsets import CODE_POINTS, UTF_16, Offsets
from .annotations import Annotation, Filler, annotations_of
from .labelling import Configuration, read_configuration
from .regions import Region, TaskLog
from .settings import INFO, LabelStudio
from .tasks import Task, id_of, tasks_of


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
    for found in tasks_of(path, encoding):
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

    def documents(self, found: Task, log: TaskLog) -> List[Document]:
        """Documents of a task; none, and a problem, where it has no text."""
        task = found.value
        if found.mended:
            log.remark("values that cannot be kept", NOT_KEPT)
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            log.remark("malformed task", 'it is no task: it has no "data".')
            return []
        data = task["data"]
        said = annotations_of(task, self._settings, log)
        texts = self._texts(data, said or [], log)
        if not texts:
            return []
        # what we wrote comes back under its own name
        name = id_of(data.get("document_id")) or id_of(task.get("id")) or found.name
        made: Dict[str, Document] = {}
        keys = [*dict.fromkeys(texts.values())]
        for to_name, key in texts.items():
            same = next((made[other] for other in made if texts[other] == key), None)
            if same is not None:
                made[to_name] = same
                continue
            document = Document(f"{name}-{key}" if len(keys) > 1 else name, data[key], source=log.where)
            document.group = name if len(keys) > 1 else id_of(data.get("group"))
            document.annotated = said is not None
            document.data = {k: v for k, v in data.items() if k not in keys}
            document.data[INFO] = {"key": key, "to_name": to_name}
            document.data[INFO].update({k: task[k] for k in ("id", "meta") if task.get(k) not in (None, {})})
            made[to_name] = document
        if said is None:
            log.remark("task without annotation", "nobody has annotated it: it counts as not annotated.")
        else:
            Filler(made, log, self._settings).fill(said)
        return [made[to_name] for to_name in _first_names(made)]

    def _texts(self, data: Mapping[str, Any], said: Sequence[Annotation], log: TaskLog) -> Dict[str, str]:
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
