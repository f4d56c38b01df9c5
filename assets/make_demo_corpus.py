"""Write the demo corpus: invented clinical notes with their entities, as a brat folder.

    python assets/make_demo_corpus.py OUTPUT [--documents 480] [--seed 7]

Every sentence is put together from parts, so that no note stands for a person. Eight labels; body parts lie
inside problems and procedures (nesting); drug and device names are coined anew, so that many of the test part
were never seen in training; one note in twenty is a long one, of more than 512 wordpieces. The same words also
stand where they are no entity ("the pain scale was explained"), so that a word list would not do.
"""

import argparse
import random
from pathlib import Path
from typing import Callable, Dict, List, Tuple

Entity = Tuple[str, int, int]
Piece = Tuple[str, List[Entity]]

SIDES = ["left", "right"]
PARTS = ["knee", "hip", "shoulder", "wrist", "ankle", "lower leg", "forearm", "breast", "kidney", "lung", "ear", "eye"]
MIDDLE_PARTS = ["liver", "stomach", "bladder", "neck", "lower back", "abdomen", "chest wall", "scalp", "pancreas",
                "thyroid", "spleen", "rectum", "mandible", "pericardium", "sigmoid colon", "lumbar spine"]  # fmt: skip
LOCAL_PROBLEMS = ["pain", "swelling", "a fracture", "numbness", "an abscess", "a burn", "stiffness", "a haematoma",
                  "a mass", "cellulitis", "weakness", "an ulcer", "a cyst", "tenderness"]  # fmt: skip
PROBLEMS = ["fever", "cough", "nausea", "vomiting", "dizziness", "fatigue", "anaemia", "hypertension", "asthma",
            "pneumonia", "sepsis", "diarrhoea", "constipation", "insomnia", "jaundice", "palpitations", "syncope",
            "type 2 diabetes", "atrial fibrillation", "iron deficiency", "night sweats", "weight loss", "migraine",
            "acute kidney injury", "deep vein thrombosis", "hypothyroidism", "urinary retention", "gout", "delirium"]  # fmt: skip
RARE_PROBLEMS = ["hidradenitis", "sarcoidosis", "tinnitus", "vertigo", "epistaxis", "hirsutism", "rosacea", "scurvy",
                 "kyphosis", "bunions", "hiccups", "restless legs", "cold sores", "sciatica", "cataract", "glaucoma",
                 "hay fever", "eczema", "psoriasis", "shingles", "mumps", "croup", "whooping cough", "cramps", "rigors",
                 "ascites", "aphasia", "ataxia", "a stutter", "a limp", "a goitre", "a squint", "a cold", "low mood",
                 "a lisp", "bedwetting", "heartburn", "bloating", "hoarseness", "night blindness", "hair loss", "a stye",
                 "snoring", "sleepwalking", "claustrophobia", "stage fright", "panic attacks", "a hangover", "sunburn",
                 "frostbite", "T2DM", "HTN", "COPD", "GORD", "UTI", "SOB", "OA", "CKD stage 3", "PTSD", "TIA"]  # fmt: skip
# what stands in the same places and is no problem
HARMLESS = ["a dog", "two children", "a new job", "good appetite", "a garden", "a walking stick", "hearing aids", "a pension",
            "a twin sister", "an allotment", "a bus pass", "clear speech", "a dry sense of humour", "strong views", "a cat",
            "full insight", "a quiet house", "a stair lift", "a driving licence", "a carer twice a week", "normal sleep",
            "steady gait", "good balance", "a stable weight", "a large family", "a heated greenhouse", "warm hands",
            "a firm handshake", "plans to travel", "private insurance", "reading glasses", "a pacemaker card", "dentures",
            "a cheerful manner", "regular meals", "flat shoes", "a spare inhaler", "a full beard", "long hair", "a tattoo",
            "a home monitor", "a taxi outside", "a phobia leaflet", "a cough diary", "the flu letter"]  # fmt: skip
LONG_PROBLEMS = ["shortness of breath on climbing more than one flight of stairs",
                 "burning that wakes the patient in the early hours of the night",
                 "loss of feeling that spreads from the toes up to the middle of the shin",
                 "a rash that began on the trunk and later reached the palms and soles",
                 "episodes of double vision that last for a few minutes at a time",
                 "inability to bear weight after a fall from a low wall"]  # fmt: skip
PROCEDURES = ["colonoscopy", "appendectomy", "bronchoscopy", "dialysis", "cholecystectomy", "lumbar puncture",
              "blood transfusion", "physiotherapy", "cataract surgery", "tonsillectomy", "endoscopy", "intubation"]  # fmt: skip
LOCAL_PROCEDURES = ["biopsy", "replacement", "arthroscopy", "drainage", "excision", "irradiation", "debridement",
                    "immobilisation", "repair", "resection"]  # fmt: skip
TESTS = ["haemoglobin", "creatinine", "potassium", "sodium", "CRP", "white cell count", "platelets", "ferritin", "TSH",
         "HbA1c", "blood pressure", "heart rate", "oxygen saturation", "temperature", "bilirubin", "troponin", "INR"]  # fmt: skip
UNITS = {"haemoglobin": "g/L", "creatinine": "µmol/L", "potassium": "mmol/L", "sodium": "mmol/L", "CRP": "mg/L",
         "white cell count": "x 10^9/L", "platelets": "x 10^9/L", "ferritin": "µg/L", "TSH": "mU/L", "HbA1c": "%",
         "blood pressure": "mmHg", "heart rate": "/min", "oxygen saturation": "%", "temperature": "°C",
         "bilirubin": "µmol/L", "troponin": "ng/L", "INR": ""}  # fmt: skip
IMAGING = ["chest X-ray", "CT", "MRI", "ultrasound", "ECG", "echocardiogram", "bone scan", "urine culture", "smear"]
KNOWN_DRUGS = ["paracetamol", "ibuprofen", "metformin", "amoxicillin", "warfarin", "insulin", "prednisolone",
               "furosemide", "omeprazole", "ramipril", "morphine", "levothyroxine", "heparin", "salbutamol"]  # fmt: skip
DRUG_STARTS = ["ab", "cel", "dor", "fex", "gal", "ib", "jen", "kal", "lor", "mav", "nel", "ox", "pem", "quin", "riv",
               "sol", "tar", "ul", "vel", "zan", "bre", "cri", "tra", "eno"]  # fmt: skip
DRUG_MIDDLES = ["a", "e", "i", "o", "u", "ati", "ero", "ita", "opa", "ume", "ini", "ola"]
DRUG_ENDS = ["mab", "pril", "sartan", "statin", "cillin", "azole", "olol", "idone", "tinib", "xaban", "gliptin", "vir"]
FORMS = ["tablets", "drops", "patch", "infusion", "inhaler", "cream", "syrup"]
EVERY = ["once daily", "twice daily", "every six hours", "at night", "three times a day", "on alternate days",
         "with meals", "as needed"]  # fmt: skip
COUNTS = ["two", "three", "four", "five", "six", "ten", "twelve"]
PERIODS = ["days", "weeks", "months", "years"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"]
WHO = ["The patient", "This 54-year-old man", "A 37-year-old woman", "The boy", "This retired teacher", "The patient's mother",
       "A previously healthy student", "An 81-year-old woman", "The farmer"]  # fmt: skip
PLACES = ["Dorovir House", "the clinic in Celatinib Road", "Mavidone School", "the Solapril family", "the eye ward"]
FILLERS = ["The pain scale was explained on admission.", "A leaflet on blood pressure was handed out.", "Allergies: none known.",
           "The family asked about visiting hours.", "The ward round was held at noon.", "Consent was obtained.",
           "The fever chart is kept at the bedside.", "No further questions were raised.", "The drug chart was signed.",
           "The cough assist machine was out of order.", "A bed on the chest unit was requested.", "Lives alone, independent.",
           "The temperature of the room was lowered at the patient's wish.", "Smokes ten cigarettes a day.",
           "An interpreter was present.", "The insulin fridge on the ward was checked.", "Follow-up letters were sent."]  # fmt: skip


class Writer:
    """Makes pieces of text with their entities from one source of randomness."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def tag(self, label: str, *parts: "str | Piece") -> Piece:
        """An entity over some text, which may have entities of its own."""
        text, entities = self.join(*parts)
        return text, [(label, 0, len(text)), *entities]

    def join(self, *parts: "str | Piece") -> Piece:
        """Put pieces after one another."""
        text, entities = "", []
        for part in parts:
            piece, inner = (part, []) if isinstance(part, str) else part
            entities += [(label, start + len(text), end + len(text)) for label, start, end in inner]
            text += piece
        return text, entities

    def pick(self, *choices: Callable[[], Piece]) -> Piece:
        return self.random.choice(choices)()

    def body_part(self) -> Piece:
        if self.random.random() < 0.5:
            return self.tag("BODY_PART", f"{self.random.choice(SIDES)} {self.random.choice(PARTS)}")
        return self.tag("BODY_PART", self.random.choice(MIDDLE_PARTS))

    def problem(self) -> Piece:
        chance = self.random.random()
        if chance < 0.2:
            return self.tag("PROBLEM", self.random.choice(RARE_PROBLEMS))
        if chance < 0.45:
            return self.tag(
                "PROBLEM", self.random.choice(["", "", "severe ", "mild ", "recurrent "]), self.random.choice(PROBLEMS)
            )
        if chance < 0.55:
            return self.tag("PROBLEM", self.random.choice(LONG_PROBLEMS))
        of = self.random.choice([" of the ", " in the "])
        return self.tag("PROBLEM", self.random.choice(LOCAL_PROBLEMS), of, self.body_part())

    def problem_or_not(self) -> Piece:
        """Something that a patient has, in a place where it may be a problem or none."""
        if self.random.random() < 0.5:
            return self.tag("PROBLEM", self.random.choice(RARE_PROBLEMS))
        return self.random.choice(HARMLESS), []

    def with_typing_errors(self, piece: Piece) -> Piece:
        """Now and then two letters change places; the length stays the same."""
        text, entities = piece
        i = self.random.randrange(len(text) - 1)
        if self.random.random() < 0.2 and text[i].isalpha() and text[i + 1].isalpha():
            text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
        return text, entities

    def procedure(self) -> Piece:
        if self.random.random() < 0.5:
            return self.tag("PROCEDURE", self.random.choice(PROCEDURES))
        what = self.random.choice(LOCAL_PROCEDURES)
        if self.random.random() < 0.5:
            return self.tag("PROCEDURE", what, " of the ", self.body_part())
        return self.tag("PROCEDURE", self.body_part(), f" {what}")

    def drug(self) -> Piece:
        if self.random.random() < 0.4:
            return self.tag("DRUG", self.random.choice(KNOWN_DRUGS))
        coined = "".join(self.random.choice(part) for part in (DRUG_STARTS, DRUG_MIDDLES, DRUG_ENDS))
        return self.tag("DRUG", coined.capitalize() if self.random.random() < 0.3 else coined)

    def dose(self) -> Piece:
        amount = self.random.choice([1, 2, 5, 10, 20, 25, 40, 50, 75, 100, 250, 500, 850, 1000])
        unit = self.random.choice(["mg", "mg", "mg", "µg", "ml", "units", "g"])
        forms = ["", "", f" {self.random.choice(FORMS)}"]
        return self.tag("DOSE", f"{amount} {unit}{self.random.choice(forms)} {self.random.choice(EVERY)}")

    def test(self, name: str = "") -> Piece:
        return self.tag("TEST", name or self.random.choice(TESTS))

    def result(self, name: str) -> Piece:
        if name == "blood pressure":
            value = f"{self.random.randint(90, 190)}/{self.random.randint(50, 110)}"
        else:
            value = f"{self.random.uniform(1, 180):.{self.random.choice([0, 1])}f}"
        return self.tag("RESULT", f"{value} {UNITS[name]}".strip())

    def image(self) -> Piece:
        name = self.random.choice(IMAGING)
        if name in ("CT", "MRI", "ultrasound") and self.random.random() < 0.7:
            return self.tag("TEST", f"{name} of the ", self.body_part())
        return self.tag("TEST", name)

    def time(self) -> Piece:
        count, period = self.random.choice(COUNTS), self.random.choice(PERIODS)
        return self.tag("TIME", self.random.choice([
            f"{count} {period} ago", f"for {count} {period}", f"in {self.random.choice(MONTHS)}", "yesterday", "today",
            f"over the past {count} {period}", f"on {self.random.randint(1, 28)} {self.random.choice(MONTHS)}",
            f"{count} {period} after discharge", "since childhood",
        ]))  # fmt: skip

    def sentence(self) -> Piece:
        """One sentence of a note."""
        who = self.random.choice(WHO)
        name = self.random.choice(TESTS)
        j, p, t = self.join, self.problem, self.time
        return self.pick(
            lambda: j(f"{who} presented with ", p(), " that began ", t(), "."),
            lambda: j(f"{who} reported ", p(), " and ", p(), "."),
            lambda: j("There was no ", p(), " and no ", p(), "."),
            lambda: j("Known ", p(), " treated with ", self.drug(), ", ", self.dose(), "."),
            lambda: j(self.drug(), " was stopped ", t(), " because of ", p(), "."),
            lambda: j("Start ", self.drug(), " ", self.dose(), ", review in clinic."),
            lambda: j("We gave ", self.drug(), " (", self.dose(), ") and ", self.drug(), "."),
            lambda: j(
                self.test(name),
                " ",
                self.result(name),
                ", ",
                self.random.choice(["unchanged", "raised", "falling"]),
                ".",
            ),
            lambda: j(
                "On examination ",
                self.test(name),
                " was ",
                self.result(name),
                " and the ",
                self.body_part(),
                " was normal.",
            ),
            lambda: j("The ", self.image(), " showed ", p(), "."),
            lambda: j("The ", self.image(), " done ", t(), " was unremarkable."),
            lambda: j("A ", self.procedure(), " was performed ", t(), " without complication."),
            lambda: j("After the ", self.procedure(), " ", who[0].lower() + who[1:], " developed ", p(), "."),
            lambda: j("Plan: ", self.procedure(), ", then ", self.drug(), " ", self.dose(), "."),
            lambda: j("Family history of ", p(), "."),
            lambda: j("The ", self.body_part(), " felt warm; the ", self.body_part(), " did not."),
            lambda: j(f"{who} has ", self.problem_or_not(), "."),
            lambda: j(f"{who} has ", self.problem_or_not(), " and ", self.problem_or_not(), "."),
            lambda: j("With ", self.problem_or_not(), " since retirement, no change ", t(), "."),
            lambda: j(
                f"The visit took {self.random.choice(COUNTS)} minutes; ", self.test(name), " repeated ", t(), "."
            ),
            lambda: j("Called ", self.random.choice(PLACES), "."),
            lambda: j(self.random.choice(FILLERS)),
            lambda: j(self.random.choice(FILLERS)),
        )

    def note(self, n_sentences: int) -> Piece:
        """A whole note: a heading, paragraphs of a few sentences, now and then a list of values."""
        parts: List[str | Piece] = [
            f"{self.random.choice(['CLINIC LETTER', 'DISCHARGE NOTE', 'WARD NOTE', 'Referral'])}\n\n"
        ]
        for i in range(n_sentences):
            text, entities = self.with_typing_errors(self.sentence())
            parts += [(text[0].upper() + text[1:], entities), "\n\n" if i % 4 == 3 else " "]
        if self.random.random() < 0.3:
            parts.append("\nLABS\n")
            for name in self.random.sample(TESTS, 4):
                parts += [self.test(name), ":\t", self.result(name), "\n"]
        return self.join(*parts)


def write(folder: Path, n_documents: int, seed: int) -> Dict[str, int]:
    """Write the corpus. RETURNS (Dict[str, int]): Entities by label."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(seed)
    counts: Dict[str, int] = {}
    for number in range(n_documents):
        n_sentences = writer.random.randint(45, 60) if number % 20 == 19 else writer.random.randint(4, 9)
        text, entities = writer.note(n_sentences)
        lines = []
        for i, (label, start, end) in enumerate(sorted(set(entities), key=lambda e: (e[1], -e[2])), start=1):
            counts[label] = counts.get(label, 0) + 1
            lines.append(f"T{i}\t{label} {start} {end}\t{text[start:end]}\n")
        (folder / f"note_{number:04}.txt").write_text(text, encoding="utf-8", newline="")
        (folder / f"note_{number:04}.ann").write_text("".join(lines), encoding="utf-8", newline="")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the demo corpus as a brat folder.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--documents", type=int, default=480)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    found = write(arguments.output, arguments.documents, arguments.seed)
    print(
        f"Wrote {arguments.documents} notes to {arguments.output}: "
        + ", ".join(f"{n} {k}" for k, n in sorted(found.items()))
    )
