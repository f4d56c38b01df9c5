"""Files of Label Studio's exports, in whichever of their forms, to tasks."""

import csv
import io
import json
import zlib
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional

from ..files import STANDARD, CorpusError, TextFile, readable, text_files
from ..json_stream import CHUNK, Value, json_values, storable
from .settings import PLACE

# What JSON_MIN and CSV say of an annotation, beside the task's data.
OF_ANNOTATION = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "history"}
# Characters of a value from which it is seen whether a file is an export, and files of a folder that are looked at.
LARGEST, LOOKED_AT = 50_000_000, 20


def is_label_studio(path: Path) -> bool:
    """Whether a path holds an export, whatever it is called."""
    if path == STANDARD or not path.exists() or path.suffix == ".spacy":
        return False
    files = text_files(path)
    for _ in range(LOOKED_AT):
        try:
            begun = _Begun(next(files).text)
            if begun.is_json():
                found = next(json_values(begun, "", LARGEST), None)
                if found is not None and isinstance(found.value, dict) and _is_export(found.value):
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


class Task(NamedTuple):
    """A task. file (str): Where it stands. number (int): The how manieth of the file. name (str): What it is called
    where it has no id. value (Any): What is there. mended (bool): Not all of what the file says."""

    file: str
    number: int
    name: str
    value: Any
    mended: bool = False

    def where(self) -> str:
        id = id_of(self.value.get("id")) if isinstance(self.value, dict) else ""
        return f"{self.file}, task {id}" if id else f"{self.file}, task no. {self.number}"


def id_of(value: Any) -> str:
    return str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""


def tasks_of(path: Path, encoding: str) -> Iterator[Task]:
    """All tasks of a path, in one form; annotations that have files of their own come last, by task."""
    stored: Dict[str, Task] = {}
    for file in text_files(path, encoding=encoding, is_data=may_be_export):
        with readable(file.name, encoding):
            pending: Optional[Task] = None
            for found in _records(file, path.is_dir() or path.suffix.lower() == ".zip"):
                record = found.value
                if isinstance(record, dict) and _is_stored(record) and isinstance(record["task"], dict):
                    _join(stored, found._replace(value=_of_storage(record)))
                    continue
                if isinstance(record, dict) and _is_min(record) and "data" not in record:
                    found = found._replace(value=_of_min(record))
                    if pending is not None and id_of(record.get("id")) and pending.value["id"] == record.get("id"):
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


def _join(stored: Dict[str, Task], found: Task) -> None:
    id = id_of(found.value.get("id")) or found.name
    if id in stored:
        stored[id].value["annotations"] += found.value["annotations"]
    else:
        stored[id] = found


def _records(file: TextFile, in_folder: bool) -> Iterator[Task]:
    begun = _Begun(file.text)
    if begun.is_json():
        values: Iterable[Value] = json_values(begun, file.name)
    elif begun.columns():
        values = _rows(begun, begun.columns(), file.name)
    elif in_folder and begun.start.lstrip().startswith("<"):
        return  # the labelling configuration
    else:
        raise CorpusError(
            f"{file.name}: it is no export of Label Studio. Export JSON, JSON_MIN, CSV or TSV; of a folder, take away "
            "what is none."
        )
    for number, value in enumerate(values, start=1):
        yield Task(file.name, number, f"{file.stem}-{number:06}", value.value, value.mended)


def _rows(begun: _Begun, separator: str, name: str) -> Iterator[Value]:
    """Rows of a CSV export as records of JSON_MIN."""
    rows = csv.DictReader(io.StringIO(begun.read(), newline=""), delimiter=separator)
    while True:
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
        record = {
            str(key).removeprefix("_data_"): _cell(value) for key, value in row.items() if value not in ("", None)
        }
        try:
            kept = storable(record)
        except RecursionError as error:
            raise CorpusError(f"{name}: its line {rows.line_num} is nested too deeply.") from error
        yield Value(rows.line_num, kept, kept != record)


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
