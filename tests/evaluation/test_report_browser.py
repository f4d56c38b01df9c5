"""The report as a reader uses it: in a browser, with the mouse and without."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple
from urllib.parse import urlencode

import pytest

from spacy_crf_ner.corpora.document import Document, Entity
from spacy_crf_ner.evaluation.report import report

from .chromium import Chromium, find_chromium
from .test_evaluate import document, fixed
from .test_report import NASTY, many, nasty, part, written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium"),
]
WORDS = {"Aspirin": "DRUG", "fever": "PROBLEM", "Lyon": "PLACE", "left knee": "BODY", "Monday": "DATE"}
ERRORS = ("label", "borders", "overlap", "missed", "spurious")
Evaluated = Tuple[Dict[str, Any], List[Dict[str, Any]]]


def corpus() -> Evaluated:
    """Short documents and long ones in two parts, all kinds of errors, two models, attributes, training data."""
    sentence = "Aspirin was given for fever in Lyon since Monday, and the left knee was cold. "
    parts = []
    for name, n in (("dev", 70), ("test", 9)):
        documents = []
        for number in range(n):
            text = f"Note {number}. " + sentence * (30 if number % 7 == 6 else 1)
            # some gold is longer, some has another label, some is not there
            gold = []
            for i, found in enumerate(re.finditer("|".join(WORDS), text)):
                label = WORDS[found[0]]
                if (i + number) % 4:
                    longer = 4 * ((i + number) % 5 == 2)
                    gold.append(
                        Entity(label if (i + number) % 6 else "OTHER", [(found.start(), found.end() + longer)], f"T{i}")
                    )
            documents.append(Document(f"{name} {number}", text, gold, data={"site": "ab"[number % 2]}))
        parts.append(part(name, *documents))
    mine = fixed([(word, label, 0.3 + 0.15 * i) for i, (word, label) in enumerate(WORDS.items())])
    other = fixed([("fever", "PROBLEM", 0.5), ("Lyon", "DATE", 0.4), ("was", "BODY", 0.35), ("Aspirin", "OTHER", 0.3)])
    seen = {("DRUG", "Aspirin"), ("PLACE", "Lyon")}
    return written(mine, *parts, settings={"by": ("site",), "exchanges": 50}, seen=seen, other=other)


@pytest.fixture(scope="module")
def evaluated() -> Evaluated:
    return corpus()


@pytest.fixture(scope="module")
def folder(evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "page.html").write_text(report(*evaluated), encoding="utf-8")
    (folder / "nasty.html").write_text(report(*nasty()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    program = find_chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Chromium(program, Path(profile))
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def page(browser: Chromium, folder: Path) -> Iterator[Chromium]:
    """The page, at its beginning. At the end it must have complained of nothing and fetched nothing."""
    browser.errors.clear()
    browser.requests.clear()
    browser.size(1200, 900)
    browser.media(prefers_color_scheme="light")
    browser.open((folder / "page.html").as_uri())
    yield browser
    assert browser.errors == []
    assert all(url.startswith(("file:", "about:", "blob:")) for url in browser.requests), browser.requests


def pairs(rows: List[Dict[str, Any]]) -> Iterator[Tuple[Dict[str, Any], str, Optional[Dict], Optional[Dict]]]:
    """Documents with their pairs: kind, gold and prediction, in the order of the text."""
    for row in rows:
        found = [(g["match"], g, None if g["with"] is None else row["predicted"][g["with"]]) for g in row["gold"]]
        found += [(p["match"], None, p) for p in row["predicted"] if p["with"] is None]
        for kind, g, p in sorted(found, key=lambda pair: min(one["start"] for one in pair[1:] if one)):
            yield row, kind, g, p


def matches(page: Chromium) -> int:
    text = page.run("document.querySelector('#result').textContent")
    return 0 if text.startswith("Nothing") else int(text.split()[0].replace(",", ""))


def expected(rows: List[Dict[str, Any]], filters: Dict[str, str]) -> int:
    """The same, with the filters written out once more."""
    kinds = filters.get("kinds", ",".join(ERRORS)).split(",")
    low, high = float(filters.get("low", 0)), float(filters.get("high", 1))
    query = filters.get("q", "").lower()

    def is_label(wanted: str, one: Optional[Dict[str, Any]]) -> bool:
        return wanted == "" or (one is None if wanted == "none" else one is not None and one["label"] == wanted[1:])

    def fits(row: Dict[str, Any], kind: str, g: Optional[Dict[str, Any]], p: Optional[Dict[str, Any]]) -> bool:
        sides = [one for one in (g, p) if one is not None]
        said = [row["text"][one["start"] : one["end"]].lower() for one in sides]
        return (
            kind in kinds
            and filters.get("part", row["part"]) == row["part"]
            and any(is_label(filters.get("label", ""), one) for one in sides)
            and is_label(filters.get("gold", ""), g)
            and is_label(filters.get("predicted", ""), p)
            and ((low, high) == (0, 1) or (p is not None and low <= p["probability"] <= high))
            and ("seen" not in filters or sides[0]["seen"] == (filters["seen"] == "1"))
            and (
                any(query in text for text in said)
                if filters.get("in") != "documents"
                else query in "\n".join([row["id"], json.dumps(row["data"]), row["text"]]).lower()
            )
        )

    return sum(fits(*pair) for pair in pairs(rows))


FILTERS: List[Dict[str, str]] = [
    {},
    *({"kinds": kind} for kind in ("exact", *ERRORS)),
    {"kinds": "missed,spurious", "part": "test"},
    {"label": "=DRUG"},
    {"gold": "=OTHER"},
    {"gold": "none"},
    {"predicted": "none", "gold": "=PLACE"},
    {"predicted": "=BODY", "kinds": "exact,borders"},
    {"low": "0.5"},
    {"low": "0.5", "high": "0.7", "kinds": "exact,label"},
    {"seen": "1"},
    {"seen": "0", "kinds": "exact"},
    {"q": "LYON"},
    {"q": "note 12.", "in": "documents"},
    {"q": "test 3", "in": "documents", "kinds": "exact,missed"},
    {"q": "nowhere"},
]


def test_filters_find_what_they_should(page: Chromium, evaluated: Evaluated) -> None:
    found = []
    for filters in FILTERS:
        page.run(f"location.hash = {json.dumps(urlencode(filters))}; 0")
        found.append((expected(evaluated[1], filters), matches(page)))
    assert [a for a, _ in found] == [b for _, b in found]
    assert sum(n > 0 for n, _ in found) == len(FILTERS) - 1


def changes(rows: List[Dict[str, Any]], view: str) -> List[Tuple[str, int, str]]:
    """What one model has right and the other wrong, by sets of entities: document, beginning, label."""

    def names(row: Dict[str, Any], side: str) -> Set[Tuple[int, int, str]]:
        return {(one["start"], one["end"], one["label"]) for one in row[side]}

    found = []
    for row in rows:
        gold, first, other = (names(row, side) for side in ("gold", "predicted", "other"))
        right = {"fixed": other - first, "broken": first - other, "both": set()}[view] & gold
        wrong = {"fixed": first - other, "broken": other - first, "both": first & other}[view] - gold
        # of the wrong ones those that were taken for some gold stand with it
        spurious = {
            (one["start"], one["end"], one["label"])
            for side in ("predicted", "other")
            for one in row[side]
            if one["with"] is None
        }
        missed = gold - first - other if view == "both" else set()
        found += [(row["id"], start, label) for start, _, label in right | missed | wrong & spurious]
    return sorted(found)


def test_what_the_other_model_has_mended_and_broken(page: Chromium, evaluated: Evaluated) -> None:
    sizes = set()
    for view in ("fixed", "broken", "both"):
        page.choose("select[name=view]", view)
        found = []
        for _ in range(matches(page)):
            page.key("j")
            said = page.run("document.querySelector('#details').textContent")
            assert f"by the {'first' if view == 'broken' else 'other'} " in said
            what = re.search(r"(?:gold|predicted by the \w+) (\w+) “[^”]*” \((?:[^,()]+, )?characters (\d+)–", said)
            assert what is not None
            found.append((said.rpartition(" · ")[2], int(what[2]), what[1]))
        assert sorted(found) == changes(evaluated[1], view)
        sizes.add(len(found))
    assert len(sizes) == 3
    assert 0 not in sizes
    # all of the other model, as a report of it alone lists its own
    page.choose("select[name=view]", "other")
    alone = [{**row, "predicted": row["other"]} for row in evaluated[1]]
    taken: List[Dict[str, Any]] = []
    for row in alone:
        kinds = {one["with"]: one["match"] for one in row["predicted"]}
        gold = [{**one, "match": kinds.get(i, "missed"), "with": None} for i, one in enumerate(row["gold"])]
        numbers = {one["with"]: i for i, one in enumerate(row["predicted"]) if one["with"] is not None}
        taken.append({**row, "gold": [{**one, "with": numbers.get(i)} for i, one in enumerate(gold)]})
    assert matches(page) == expected(taken, {}) != expected(evaluated[1], {})


def test_gold_and_two_models_stand_side_by_side(page: Chromium, evaluated: Evaluated) -> None:
    page.run("location.hash = 'show=all&q=dev+1&in=documents'; 0")
    row = next(row for row in evaluated[1] if row["id"] == "dev 1")
    cells = page.run(
        """[...[...document.querySelectorAll('.document')].find(one => one.querySelector('h4').textContent === 'dev 1')
        .querySelectorAll('[data-side]')].map(cell => [cell.dataset.side, [...cell.querySelectorAll('mark')].map(mark =>
        mark.firstChild.textContent), cell.getBoundingClientRect().top])"""
    )
    assert [name for name, *_ in cells] == ["gold", "predicted", "other"]
    assert len({top for *_, top in cells}) == 1
    for side, said, _ in cells:
        assert said == [row["text"][one["start"] : one["end"]] for one in row[side]]
    assert page.run("document.querySelector('.names').textContent") == "goldpredicted, firstpredicted, other"
    # entities of gold have the signs of both
    signs = {"exact": "✓", "label": "≠", "borders": "↔", "overlap": "≈", "missed": "−"}
    tags = page.run("[...document.querySelectorAll('.document [data-side=gold] .tag')].map(tag => tag.textContent)")
    gold = [(one, i, found) for found in evaluated[1] if "dev 1" in found["id"] for i, one in enumerate(found["gold"])]
    wanted = []
    for one, i, found in gold:
        second = next((other["match"] for other in found["other"] if other["with"] == i), "missed")
        wanted.append(f"{one['label']} {signs[one['match']]} {signs[second]}")
    assert tags == wanted[: len(tags)] != []


def test_what_only_one_model_found_is_a_press_away(page: Chromium, evaluated: Evaluated) -> None:
    found = evaluated[0]["comparison"]["parts"]["dev"]["found"]
    for who, n in found.items():
        button = f"[...document.querySelectorAll('#panel-0 tbody th button')].find(one => one.textContent === '{who}')"
        if who == "both":
            assert page.run(f"{button} === undefined")
            continue
        page.run(f"{button}.click()")
        assert matches(page) == n > 0


def test_fields_set_the_filters_and_the_address_keeps_them(page: Chromium, evaluated: Evaluated) -> None:
    page.click("[name=missed]")
    page.choose("select[name=part]", "dev")
    page.choose("select[name=label]", "=PLACE")
    page.choose("[name=low]", "0.2")
    page.choose("[name=q]", "lyon")
    page.wait("location.hash.includes('q=lyon')")
    wanted = {"kinds": "label,borders,overlap,spurious", "part": "dev", "label": "=PLACE", "low": "0.2", "q": "lyon"}
    assert matches(page) == expected(evaluated[1], wanted) > 0
    address, shown = page.run("location.href"), page.run("document.querySelector('#result').textContent")
    page.open(address)
    assert page.run("document.querySelector('#result').textContent") == shown
    assert page.run("document.querySelector('[name=q]').value") == "lyon"
    assert page.run("document.querySelector('[name=missed]').checked") is False
    page.click("[name=reset]")
    assert matches(page) == expected(evaluated[1], {})
    assert page.run("location.hash") == ""
    # an address that somebody has spoilt
    page.run("location.hash = 'part=none&page=x&low=a&order=no&kinds=missed,odd'; 0")
    assert matches(page) == expected(evaluated[1], {"kinds": "missed"})


def test_keys_visit_every_match_in_order(page: Chromium, evaluated: Evaluated) -> None:
    """From page to page and back, with the focus on what is visited, and what it says of it."""
    wanted = [(row, kind, g, p) for row, kind, g, p in pairs(evaluated[1]) if kind in ERRORS]
    assert page.run("document.querySelectorAll('.document').length") < len({row["id"] for row, *_ in wanted})
    page.key("j")
    for number, (row, kind, g, p) in enumerate(wanted, start=1):
        said = page.run("document.querySelector('#details').textContent")
        assert said.startswith(f"{number:,} of {len(wanted):,} · ")
        assert f" {kind}: " in said
        assert said.endswith(f" · {row['id']}")
        for one in (g, p):
            assert one is None or f"“{row['text'][one['start'] : one['end']]}”" in said
        assert page.run("document.activeElement.matches('mark.current')")
        page.key("j" if number % 2 else "ArrowDown")
    # the last one stays; and back over a page
    assert page.run("document.querySelector('#details').textContent").startswith(f"{len(wanted):,} of")
    for _ in range(len(wanted) // 2):
        page.key("k")
    assert page.run("document.querySelector('#details').textContent").startswith(
        f"{len(wanted) - len(wanted) // 2:,} of"
    )
    box = page.run("document.activeElement.getBoundingClientRect().toJSON()")
    assert 0 <= box["top"] < box["bottom"] <= 900
    page.key("Escape")
    assert page.run("document.activeElement.name") == "q"
    # letters are text there
    page.key("j")
    assert page.run("document.activeElement.name") == "q"
    assert page.run("document.querySelector('[name=q]').value") == "j"


def test_every_document_can_be_reached(page: Chromium, evaluated: Evaluated) -> None:
    page.choose("select[name=show]", "all")
    names: List[str] = []
    while True:
        names += page.run("[...document.querySelectorAll('.document h4')].map(one => one.textContent)")
        if page.run("document.querySelector('[aria-label=\"Next page\"]').disabled"):
            break
        page.click('[aria-label="Next page"]')
    assert names == [row["id"] for row in evaluated[1]]
    page.choose("select[name=order]", "most")
    first = page.run("document.querySelector('.document h4').textContent")
    counts: Dict[str, int] = {}
    for row, kind, *_ in pairs(evaluated[1]):
        counts[row["id"]] = counts.get(row["id"], 0) + (kind in ERRORS)
    assert counts[first] == max(counts.values())


def test_gold_and_predictions_stand_in_the_text(page: Chromium, evaluated: Evaluated) -> None:
    """Marks without their tags say what entities say, on their own side; long texts are shown in windows or whole."""
    rows = {row["id"]: row for row in evaluated[1]}
    page.run("location.hash = 'show=all&q=dev+6&in=documents&kinds=missed'; 0")
    assert page.run("document.querySelector('.document h4').textContent") == "dev 6"
    row = rows["dev 6"]
    sides = """(() => [...document.querySelector('.document').querySelectorAll('[data-side]')].map(cell => {
        const copy = cell.cloneNode(true);
        copy.querySelectorAll('.tag').forEach(tag => tag.remove());
        return [cell.dataset.side, copy.textContent, [...copy.querySelectorAll('mark')].map(mark => mark.textContent)];
    }))()"""
    gaps = "[...document.querySelectorAll('.document')][0].querySelectorAll('.gap').length"
    button = page.run("document.querySelector('.document > header button')?.textContent")
    if button:
        assert page.run(gaps) > 0
        page.click(".document > header button")
    assert page.run(gaps) == 0
    for side, entities in (("gold", row["gold"]), ("predicted", row["predicted"])):
        found = [cell for cell in page.run(sides) if cell[0] == side]
        assert "".join(text for _, text, _ in found).split() == row["text"].split()
        assert [mark for _, _, marks in found for mark in marks] == [
            row["text"][e["start"] : e["end"]] for e in entities
        ]


def test_a_long_text_is_shown_around_its_matches(page: Chromium, evaluated: Evaluated) -> None:
    page.run("location.hash = 'part=dev&q=monday&low=0.1&kinds=exact,label,borders'; 0")
    shown = page.run("""[...document.querySelectorAll('.document:has(.gap)')].map(one => [
        one.querySelector('h4').textContent,
        [...one.querySelectorAll('.gap')].map(gap => +gap.textContent.replace(/\\D/g, '')).reduce((a, b) => a + b),
        [...one.querySelectorAll('mark:not(.other)')].length])""")
    texts = {row["id"]: row["text"] for row in evaluated[1]}
    assert shown
    for name, hidden, marks in shown:
        assert len(texts[name]) - 700 < hidden < len(texts[name])
        assert marks == 2


def test_scores_are_those_of_the_file(page: Chromium, evaluated: Evaluated) -> None:
    metrics = evaluated[0]["parts"]
    for i, scores in enumerate(metrics.values()):
        cards = page.run(f"[...document.querySelectorAll('#panel-{i} .card b')].map(one => one.textContent)")
        mine = scores["characters"]
        wanted = [mine["exact"]["micro"], mine["overlap"]["micro"], mine["tokens"]["micro"], mine["semeval"]["partial"]]
        assert cards == [f"{100 * one['f']:.1f}" for one in wanted]
    page.run("document.querySelectorAll('#panel-0 table')[3].scrollIntoView()")
    text = page.run("document.querySelector('#panel-0').textContent")
    for found in evaluated[0]["comparison"]["parts"]["dev"]["f"].values():
        assert f"{found['p_value']:.4f}" in text
    record = page.run("document.querySelector('#run').textContent")
    assert "parts, dev, sha256" in record


LABELS = (
    "[...document.querySelectorAll('#panel-0 table')].find(one => one.caption.textContent.includes('a label leads'))"
)


def test_tables_sort_and_lead_to_entities(page: Chromium, evaluated: Evaluated) -> None:
    per_label = evaluated[0]["parts"]["dev"]["characters"]["exact"]["per_label"]
    names = f"[...{LABELS}.tBodies[0].rows].map(row => row.cells[0].textContent)"

    def press(column: int) -> List[str]:
        page.run(f"{LABELS}.tHead.rows[0].cells[{column}].querySelector('button').focus()")
        page.key("Enter")
        return page.run(names)

    assert press(0) == sorted(per_label)
    assert page.run(f"{LABELS}.tHead.rows[0].cells[0].getAttribute('aria-sort')") == "ascending"
    assert press(0) == sorted(per_label, reverse=True)
    for column, key in ((1, "p"), (2, "r"), (3, "f"), (6, "gold"), (7, "predicted"), (8, "correct")):
        values = [per_label[name][key] for name in press(column)]
        assert values == sorted(per_label_values(per_label, key), reverse=True)
    page.run(f"{LABELS}.tBodies[0].rows[0].cells[0].querySelector('button').click()")
    label = page.run(f"{LABELS}.tBodies[0].rows[0].cells[0].textContent")
    everything = {"kinds": ",".join(("exact", *ERRORS)), "part": "dev", "label": f"={label}"}
    assert matches(page) == expected(evaluated[1], everything) > 0


def per_label_values(per_label: Dict[str, Any], key: str) -> List[float]:
    return [score[key] for score in per_label.values()]


def test_cells_of_the_confusion_lead_to_as_many_entities(page: Chromium, evaluated: Evaluated) -> None:
    """By keys alone: along the first row that has several cells."""
    for i, name in enumerate(("dev", "test")):
        if i:
            page.run("document.querySelector('#tab-0').focus()")
            page.key("ArrowRight")
        confusion = evaluated[0]["parts"][name]["characters"]["confusion"]
        cells = page.run(f"[...document.querySelectorAll('#panel-{i} .confusion [data-n]')].map(one => +one.dataset.n)")
        assert cells == [n for row in confusion["counts"] for n in row if n]
        page.run(f"document.querySelector('#panel-{i} .confusion [data-n][tabindex=\"0\"]').focus()")
        for step in ("", "ArrowRight", "ArrowDown", "ArrowLeft"):
            if step:
                page.run("window.now?.focus()")
                page.key(step)
            page.run("window.now = document.activeElement; 0")
            wanted = page.run("+document.activeElement.dataset.n")
            page.key("Enter")
            assert matches(page) == wanted > 0
            assert page.run("document.activeElement.matches('#errors > summary')")


def test_tabs_go_by_arrow_keys(page: Chromium) -> None:
    visible = "[...document.querySelectorAll('[role=tabpanel]')].map(one => one.offsetParent !== null)"
    assert page.run(visible) == [True, False]
    page.run("document.querySelector('#tab-0').focus()")
    for key, wanted in (("ArrowRight", [False, True]), ("ArrowRight", [True, False]), ("ArrowLeft", [False, True])):
        page.key(key)
        assert page.run(visible) == wanted
        assert page.run("document.activeElement.getAttribute('aria-selected')") == "true"
    page.click("#tab-0")
    assert page.run(visible) == [True, False]


def test_every_control_is_reached_by_tab_and_has_a_name(page: Chromium) -> None:
    controls = 'button:not(:disabled):not([tabindex="-1"]), select, input, summary'
    assert (
        page.run(f"""[...document.querySelectorAll('{controls}')].filter(one => one.offsetParent
        && !(one.textContent.trim() || one.getAttribute('aria-label') || one.closest('label')?.textContent.trim()))
        .length""")
        == 0
    )
    page.run(f"window.all = [...document.querySelectorAll('{controls}')].filter(one => one.checkVisibility()); 0")
    page.run("window.left = new Set(window.all); 0")
    many = page.run("window.left.size")
    page.run("addEventListener('focusin', event => window.left.delete(event.target)); document.body.focus(); 0")
    for _ in range(3 * many):
        page.key("Tab")
        if not page.run("window.left.size"):
            break
    assert page.run("[...window.left].map(one => one.outerHTML)") == []


def test_light_dark_and_narrow(page: Chromium) -> None:
    contrast = """(() => {
        const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
        const light = text => text.match(/\\d+/g).map(v => linear(v / 255))
            .reduce((sum, v, i) => sum + [.2126, .7152, .0722][i] * v, 0);
        const style = getComputedStyle(document.body);
        const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
        return (high + .05) / (low + .05); })()"""
    theme = "document.documentElement.dataset.theme"
    assert page.run(theme) == "light"
    assert page.run(contrast) > 7
    page.media(prefers_color_scheme="dark")
    page.wait(f"{theme} === 'dark'")
    assert page.run(contrast) > 7
    page.click("#theme")
    assert page.run(theme) == "light"
    page.run("localStorage.removeItem('theme')")
    for width in (360, 700, 1200, 2200):
        page.size(width, 900)
        assert page.run("document.documentElement.scrollWidth") <= width


def test_print_has_everything(page: Chromium, tmp_path: Path) -> None:
    page.run("document.querySelectorAll('details').forEach(one => { one.open = false; })")
    page.run(
        "addEventListener('beforeprint', () => { window.open_ = document.querySelectorAll('details[open]').length; })"
    )
    page.pdf(tmp_path / "a.pdf")
    assert page.run("window.open_ === document.querySelectorAll('details').length")
    assert page.run("document.querySelectorAll('details[open]').length") == 0
    page.media(media="print")
    assert page.run("[...document.querySelectorAll('[role=tabpanel]')].every(one => one.offsetParent !== null)")
    assert page.run("[...document.querySelectorAll('.filters, #theme')].every(one => one.offsetParent === null)")
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "a.pdf").read_bytes())) > 2


def test_names_and_texts_are_shown_as_they_are(page: Chromium, folder: Path) -> None:
    page.run("window.marker = 1")
    page.open((folder / "nasty.html").as_uri() + "#kinds=exact,label,borders,overlap,missed,spurious")
    assert page.run("document.querySelector('.document h4').textContent") == "</h4><b>"
    assert page.run("document.querySelector('.document header .soft').textContent").startswith(
        "<b>dev</b> · <i>: </div> ·"
    )
    cell = page.run("document.querySelector('.document [data-side=gold]').textContent")
    assert cell.startswith(NASTY.split("Aspirin")[0])
    marks = page.run("[...document.querySelectorAll('.document')][0].querySelectorAll('[data-side=gold] mark').length")
    assert marks == 3
    assert page.run("document.querySelectorAll('script').length") == 2
    said = page.run("document.querySelectorAll('[data-side=gold] mark')[2].firstChild.textContent")
    assert said == "é"
    # offsets are those of the file, which do not count an emoji twice
    page.run("document.querySelectorAll('[data-side=gold] mark')[2].click()")
    assert page.run("document.activeElement.textContent").startswith("fever")
    said = page.run("document.querySelector('#details').textContent")
    assert f"{NASTY.index('é')}–{NASTY.index('é') + 1}" in said


def test_names_of_parts_that_look_like_numbers_keep_their_order(page: Chromium, tmp_path: Path) -> None:
    names = ["z", "10", "2", "__proto__"]
    parts = [part(name, document(f"Fever {name}", ("X", "Fever"), id=f"of {name}")) for name in names]
    (tmp_path / "page.html").write_text(report(*written(fixed([]), *parts)), encoding="utf-8")
    page.open((tmp_path / "page.html").as_uri())
    assert page.run("[...document.querySelectorAll('#tabs button')].map(one => one.textContent)") == names
    for name in names:
        page.choose("select[name=part]", name)
        assert page.run("[...document.querySelectorAll('.document h4')].map(one => one.textContent)") == [f"of {name}"]


def test_a_long_document_with_thousands_of_matches_opens(page: Chromium, tmp_path: Path) -> None:
    sentence = "Aspirin 😀 was given for fever in Lyon since Monday, and the left knee was cold. "
    many = 8000
    text = sentence * many
    gold = [Entity("DRUG", [(i * len(sentence), i * len(sentence) + 7)], f"T{i}") for i in range(many)]
    (metrics, (row,)) = written(fixed([]), part("dev", Document("long", sentence, gold[:1])))
    entities = [{**row["gold"][0], "start": item.start, "end": item.end, "id": item.id} for item in gold]
    page_text = report(metrics, [{**row, "text": text, "gold": entities}])
    (tmp_path / "page.html").write_text(page_text, encoding="utf-8")
    page.open((tmp_path / "page.html").as_uri())
    assert matches(page) == many
    page.click(f"mark[aria-label*='(T{many - 1},']")
    said = page.run("document.querySelector('#details').textContent")
    assert f"characters {gold[-1].start}–{gold[-1].end})" in said
    assert page.run("document.querySelectorAll('[data-side=gold] mark').length") == many


def test_packed_data_and_what_is_left_out(page: Chromium, tmp_path: Path) -> None:
    metrics, rows = many(60, 100)
    for most, shown in ((200_000, 60), (45_000, 60), (20_000, None)):
        (tmp_path / "page.html").write_text(report(metrics, rows, most_bytes=most), encoding="utf-8")
        page.open((tmp_path / "page.html").as_uri() + "#show=all")
        here = int(re.search(r"documents? of (\d+)", page.run("document.querySelector('#result').textContent"))[1])  # type: ignore[index]
        said = page.run("document.querySelector('#left-out')?.textContent ?? ''")
        assert here == shown or f"{60 - here} of 60 of dev" in said
        assert bool(said) == (shown is None)
