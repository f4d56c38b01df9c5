"""Import what we write into a real Label Studio, export it again, and compare.

    python -m venv label_studio && label_studio/bin/pip install label-studio
    python scripts/label_studio_round_trip.py label_studio/bin/label-studio

It starts a server of its own on this machine, with a database in a temporary folder, and stops it at the end. Prints
what was imported, and exits with 1 where an entity, a score or a relation did not come back.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from spacy_crf_ner.corpora.document import Document, Entity, Link
from spacy_crf_ner.corpora.label_studio import LabelStudio, read_label_studio, write_label_studio

TOKEN = "0123456789abcdef0123456789abcdef01234567"
START, CALL = 300, 60  # seconds


def documents() -> Iterator[Document]:
    """Emoji, line ends, nested and crossing entities, several labels at one place, attributes, relations."""
    text = "👨🏻‍🚒 Fever in Lyon 😀.\r\nNo <b>pain</b> & no fever\nin New York City"
    yield Document(
        "a/1",
        text,
        [
            _entity("PROBLEM", text, "Fever", "T1", score=0.75, attributes={"Negated": True}, notes=["sure", "é 😀"]),
            _entity("PLACE", text, "Lyon", "T2", score=0.5),
            _entity("EMOJI", text, "👨🏻‍🚒", "T3", score=1.0),
            _entity("EMOJI", text, "😀", "T4", score=0.25, attributes={"Grade": "high"}),
            _entity("PLACE", text, "New York", "T5", score=0.5),
            _entity("PLACE", text, "New York City", "T6", score=0.5),
            _entity("CITY", text, "York City", "T7", score=0.5),
            _entity("SENTENCE", text, "😀.\r\nNo <b>pain</b>", "T8", score=0.5),
            _entity("CITY", text, "New York City", "T9", score=0.5),
        ],
        [
            Link("relation", "in", [("Arg1", "T1"), ("Arg2", "T2")]),
            Link("relation", "is", [("Arg1", "T5"), ("Arg2", "T6")]),
        ],
        data={"ward": "B 2"},
    )
    yield Document("empty", "Nothing here.")
    yield Document("unseen", "Nobody looked.", annotated=False)


def _entity(label: str, text: str, part: str, id: str, **more: Any) -> Entity:
    start = text.index(part)
    return Entity(label, [(start, start + len(part))], id, **more)


def _link(label: str, first: str, last: str) -> Link:
    return Link("relation", label, [("Arg1", first), ("Arg2", last)])


class Server:
    """A Label Studio of our own. executable (str): Its program."""

    def __init__(self, executable: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        said = {
            "HOME": str(folder),
            "COLLECT_ANALYTICS": "False",
            "LATEST_VERSION_CHECK": "False",
            "SENTRY_DSN": "",
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
            "LABEL_STUDIO_USERNAME": "somebody@example.org",
            "LABEL_STUDIO_PASSWORD": TOKEN,
            "LABEL_STUDIO_USER_TOKEN": TOKEN,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        }
        command = [executable, "start", "--no-browser", "--data-dir", str(folder), "--internal-host", "127.0.0.1"]
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port)],
                cwd=folder,
                env={**os.environ, **said},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._log = folder / "server.log"

    def wait(self) -> None:
        """RAISES (RuntimeError): It does not start."""
        end = time.monotonic() + START
        while time.monotonic() < end and self._process.poll() is None:
            try:
                self.call("/api/projects/")
                return
            except OSError:
                time.sleep(1)
        raise RuntimeError(f"Label Studio does not start: {self._log.read_text(errors='replace')[-2000:]}")

    def call(self, path: str, body: Any = None, method: Optional[str] = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=CALL) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode(errors='replace')[:2000]}") from error

    def stop(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(30)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            self._process.kill()


def said(document: Document, names: bool = True) -> Tuple[Any, ...]:
    """What is to come back. names (bool): Ids, scores, notes, attributes and relations too: only JSON has these."""
    if not names:
        return document.text, sorted((e.label, *e.fragments[0]) for e in document.entities)
    entities = [(e.label, e.fragments, e.id, e.score, e.attributes, e.notes) for e in document.entities]
    return document.text, sorted(entities, key=str), sorted(map(str, document.links)), document.data.get("ward")


def project(server: Server, folder: Path, **settings: Any) -> int:
    """Import our documents into a new project. RETURNS (int): Its number."""
    output = folder / f"{'annotations' if settings else 'predictions'}.json"
    written = [*write_label_studio(documents(), output, LabelStudio(**settings))]
    assert not [problem for document in written for problem in document.problems]
    asked = {"title": output.stem, "label_config": output.with_suffix(".xml").read_text(encoding="utf-8")}
    number = json.loads(server.call("/api/projects/", asked))["id"]
    answer = server.call(f"/api/projects/{number}/import?return_task_ids=true", json.loads(output.read_text("utf-8")))
    print(f"{output.stem}: imported {answer.decode()}")
    return number


def exported(server: Server, number: int, form: str, folder: Path) -> List[Document]:
    """An export of a project."""
    path = folder / f"{number}.{form}"
    path.write_bytes(server.call(f"/api/projects/{number}/export?exportType={form}&download_all_tasks=true"))
    return with_ids(path)


def snapshot(server: Server, number: int, folder: Path) -> List[Document]:
    """A snapshot of a project with its predictions, which other exports only name."""
    at = f"/api/projects/{number}/exports/"
    asked = {"serialization_options": {"predictions": {"only_id": False}}}
    made = json.loads(server.call(at, asked))["id"]
    for _ in range(CALL):
        if json.loads(server.call(f"{at}{made}"))["status"] == "completed":
            break
        time.sleep(1)
    path = folder / "snapshot"
    path.write_bytes(server.call(f"{at}{made}/download?exportType=JSON"))
    return with_ids(path, predictions="missing")


def with_ids(path: Path, **settings: Any) -> List[Document]:
    """What our reader reads, with the ids that the documents had before they were imported."""
    found = [*read_label_studio(path, settings=LabelStudio(**settings))]
    for document in found:
        document.id = document.data["document_id"]
    return found


def compare(name: str, found: List[Document], wanted: Dict[str, Document], names: bool) -> bool:
    """Whether all came back; otherwise say what did not."""
    missing = wanted.keys() - {document.id for document in found}
    wrong = [document for document in found if said(document, names) != said(wanted[document.id], names)]
    entities = sum(len(document.entities) for document in found)
    print(f"{name}: {len(found)} documents, {entities} entities: {'other' if wrong or missing else 'the same'}")
    for document in wrong:
        print(f"  {said(document, names)}\n  {said(wanted[document.id], names)}\n  {[*map(str, document.problems)]}")
    return not wrong and not missing


def shown(server: Server, number: int) -> bool:
    """Whether the tasks have their predictions, as an annotator would be shown them."""
    listed = json.loads(server.call(f"/api/tasks?project={number}&fields=all&page_size=100"))
    counts = {task["data"]["document_id"]: task["total_predictions"] for task in listed["tasks"]}
    print(f"predictions: shown with the tasks: {counts}")
    return counts == {"a/1": 1, "empty": 1, "unseen": 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("executable", help="Label Studio's program: …/bin/label-studio")
    executable = str(Path(parser.parse_args().executable).absolute())
    wanted = {document.id: document for document in documents()}
    annotated = {name: document for name, document in wanted.items() if document.annotated}
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        server = Server(executable, folder)
        try:
            server.wait()
            number = project(server, folder)
            good &= shown(server, number)
            good &= compare("predictions, snapshot", snapshot(server, number, folder), wanted, names=True)
            number = project(server, folder, as_annotations=True)
            good &= compare("annotations, JSON", exported(server, number, "JSON", folder), wanted, names=True)
            for form in ("JSON_MIN", "CSV", "TSV"):
                found = [d for d in exported(server, number, form, folder) if d.id in annotated or d.entities]
                good &= compare(f"annotations, {form}", found, annotated, names=False)
        finally:
            server.stop()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
