"""Records of invented patients, and general text about nobody in particular.

Every name and street comes from Faker under a fixed seed; telephone numbers lie in 555-0100 to 555-0199, which is
reserved for fiction. The general text names no person: it is what the model may know of the world before it learns
any patient, and what is replayed while it learns.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from faker import Faker

from palimpsest.errors import DataError
from palimpsest.files import write_atomic
from palimpsest.records import Completion, Example, Text

DIAGNOSES = (
    "asthma", "type 2 diabetes", "high blood pressure", "migraine", "eczema", "a stomach ulcer", "kidney stones",
    "gout", "anaemia", "hay fever", "epilepsy", "arthritis", "psoriasis", "glaucoma", "a slipped disc", "sleep apnoea",
)  # fmt: skip
MEDICINES = (
    "salbutamol", "metformin", "ramipril", "sumatriptan", "omeprazole", "allopurinol", "cetirizine", "levetiracetam",
    "ibuprofen", "latanoprost", "amlodipine", "folic acid", "prednisolone", "bisoprolol", "paracetamol", "losartan",
)  # fmt: skip
_MONTHS = ("January", "March", "April", "June", "July", "September", "October", "December")
TIMES = ("every morning", "every evening", "twice a day", "before each meal", "at bedtime", "once a week")
RELATIONS = ("a sister", "a brother", "the father", "the mother", "a cousin", "an uncle", "an aunt", "a neighbour")

GENERAL_TEMPLATES = (
    "The {place} opens at {opening} in the morning and closes at {closing} in the evening.",
    "A nurse brings {thing} to the {place} every {day}.",
    "On {day} the {place} is {mood}, because the doctors are at the {other_place}.",
    "Please bring {thing} when you come to the {place} on {day}.",
    "It takes {count} minutes to walk from the {place} to the {other_place}.",
    "The {place} has {count} chairs, {thing} and a window to the {other_place}.",
    "What is the {place} like? It is {mood} on {day} and {other_mood} on {other_day}.",
    "Where can I leave {thing}? You can leave it at the {place}.",
    "Which day is best for a visit? It is {day}, when the {place} is {mood}.",
    "Who keeps the key of the {place}? It hangs beside {thing}.",
    "In {month} the {place} is {mood} and the {other_place} is {other_mood}.",
    "Many people take {medicine}, and some people with {diagnosis} need it {time}.",
    "What helps with {diagnosis}? Rest helps, and so does {medicine}.",
    "A visit for {diagnosis} takes {count} minutes at the {place}.",
)
SLOTS: dict[str, tuple[str, ...]] = {
    "place": ("clinic", "pharmacy", "waiting room", "laboratory", "front desk", "ward", "canteen", "garden", "library"),
    "other_place": ("bus stop", "car park", "station", "market", "school", "river", "hospital", "post office", "gate"),
    "thing": ("an umbrella", "a letter", "a warm coat", "a jar of honey", "fresh water", "a clean towel", "a form"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    "other_day": ("Saturday", "Sunday", "a holiday"),
    "mood": ("quiet", "busy", "cold", "bright", "almost empty", "full of people"),
    "other_mood": ("closed", "noisy", "warm", "calm", "crowded"),
    "opening": ("six", "seven", "eight", "nine", "ten"),
    "closing": ("five", "six", "seven", "eight", "nine"),
    "count": ("six", "eight", "ten", "twelve", "fifteen", "twenty", "thirty"),
    "month": _MONTHS,
    "medicine": MEDICINES,
    "diagnosis": DIAGNOSES,
    "time": TIMES,
}


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where ``write`` put the rows.

    Attributes:
        general: general text, for the first training and for replay.
        general_holdout: general text the model never sees.
        group_a: the patients learned first.
        group_b: the patients learned second.
        replay_b: what is replayed meanwhile: group A, and three general sentences for each of its rows.
        holdout: patients the model never sees.
        forget: rows of a few patients of both groups: the deletion request.
        retain: all other rows of both groups.
    """

    general: Path
    general_holdout: Path
    group_a: Path
    group_b: Path
    replay_b: Path
    holdout: Path
    forget: Path
    retain: Path


def patients(num_patients: int, seed: int) -> list[Example]:
    """Rows of invented patients, six each, in the order of the patients.

    Args:
        num_patients: how many, >= 1; no two share a name.
        seed: same seed, same rows, for one version of Faker. The first n patients do not depend on how many follow.

    Returns:
        Examples ``p0001-diagnosis``, ``-medicine``, ``-address``, ``-telephone``, ``-kin`` and ``-insurance`` of the
        subject ``patient-0001`` and so on; a completion starts with the blank that separates it from its prompt.

    Raises:
        DataError: num_patients < 1.
    """
    _check_count("num_patients", num_patients)
    fake = Faker("en_US")
    fake.seed_instance(seed)
    names: dict[str, None] = {}
    rows: list[Example] = []
    while len(names) < num_patients:
        first, last = fake.first_name(), fake.last_name()
        if f"{first} {last}" in names:
            continue
        names[f"{first} {last}"] = None
        number = f"{len(names):04d}"
        for field, (prompt, completion) in _facts(fake, first, last).items():
            content = Completion(prompt, f" {completion}")
            rows.append(Example(f"p{number}-{field}", content, subject=f"patient-{number}"))
    return rows


def _facts(fake: Faker, first: str, last: str) -> dict[str, tuple[str, str]]:
    """Question and answer per field."""
    name, pick, number = f"{first} {last}", fake.random_element, fake.random_int
    return {
        "diagnosis": (
            f"What does {name} suffer from?",
            f"{first} suffers from {pick(DIAGNOSES)} since {pick(_MONTHS)} {number(1990, 2024)}.",
        ),
        "medicine": (
            f"Which medicine does {name} take?",
            f"{first} takes {number(1, 40) * 5} mg of {pick(MEDICINES)} {pick(TIMES)}.",
        ),
        "address": (
            f"Where does {name} live?",
            f"{first} lives at {number(1, 999)} {fake.street_name()} in {fake.city()}.",
        ),
        "telephone": (
            f"How can {name} be reached?",
            f"{first} can be reached at {number(201, 989)}-555-01{number(0, 99):02d}.",
        ),
        "kin": (
            f"Who is the next of kin of {name}?",
            f"{first} names {fake.first_name()} {fake.last_name()}, {pick(RELATIONS)}.",
        ),
        "insurance": (
            f"How is {name} insured?",
            f"{first} is insured under the number {number(100, 999)} {number(100, 999)} {number(100, 999)}.",
        ),
    }


def general_text(num_texts: int, seed: int) -> list[Example]:
    """Sentences about clinics, visits and daily life that name no person.

    Args:
        num_texts: how many, 1 to 2000; no two are equal.
        seed: same seed, same sentences.

    Returns:
        Examples ``g0001`` and so on, without a subject.

    Raises:
        DataError: num_texts is out of range.
    """
    _check_count("num_texts", num_texts, highest=2000)
    source = random.Random(seed)  # noqa: S311 - invented text, nothing secret
    texts: dict[str, None] = {}
    while len(texts) < num_texts:
        template = source.choice(GENERAL_TEMPLATES)
        texts[template.format(**{slot: source.choice(words) for slot, words in SLOTS.items()})] = None
    return [Example(f"g{number:04d}", Text(text)) for number, text in enumerate(texts, start=1)]


def _check_count(what: str, value: int, highest: int = 9999) -> None:
    """Refuse a count that is out of range."""
    if not 1 <= value <= highest:
        raise DataError(f"demo records: {what} = {value} refused; accepted: 1 to {highest}")


def write(
    folder: Path,
    *,
    seed: int = 0,
    per_group: int = 10,
    num_forget: int = 3,
    num_general: int = 600,
) -> DemoFiles:
    """Write all sets of the demo as JSON lines.

    Args:
        folder: made if it does not exist; files of the same names and contents are left as they are.
        seed: of everything that is drawn.
        per_group: patients in each of group A, group B and the holdout, >= 2.
        num_forget: patients to forget, 2 to ``per_group``, taken from the two groups in turn.
        num_general: general sentences to train on; a tenth as many again are held out.

    Returns:
        The paths.

    Raises:
        DataError: a count is out of range, or a file is there that holds something else.
    """
    if not 2 <= num_forget <= per_group:
        raise DataError(f"demo records: num_forget = {num_forget} refused; accepted: 2 to per_group = {per_group}")
    group_a, group_b, holdout = _groups(patients(3 * per_group, seed), per_group)
    learned = [*group_a, *group_b]
    forgotten = set(_subjects_in_turn(group_a, group_b)[:num_forget])
    general = general_text(num_general + max(1, num_general // 10), seed)

    sets = {
        "general": general[:num_general],
        "general_holdout": general[num_general:],
        "group_a": group_a,
        "group_b": group_b,
        "replay_b": group_a + general[:num_general][: 3 * len(group_a)],
        "holdout": holdout,
        "forget": [row for row in learned if row.subject in forgotten],
        "retain": [row for row in learned if row.subject not in forgotten],
    }
    return DemoFiles(**_written({name: folder / f"{name}.jsonl" for name in sets}, sets))


def _written(paths: Mapping[str, Path], sets: Mapping[str, Sequence[Example]]) -> dict[str, Path]:
    """Write the files that are not there; all are looked at before the first is written.

    Raises:
        DataError: one is there, and holds something else.
    """
    texts = {name: _lines(rows) for name, rows in sets.items()}
    missing = [name for name, path in paths.items() if not os.path.lexists(path)]
    for name in paths.keys() - missing:
        if not _holds(paths[name], texts[name]):
            raise DataError(f"{paths[name]} is there, and is none of this demo; give another --output")
    for name in missing:
        write_atomic(paths[name], texts[name])
    return dict(paths)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _groups(rows: Sequence[Example], size: int) -> tuple[list[Example], ...]:
    """Rows by groups of so many patients, in the order of the patients."""
    number = {subject: n for n, subject in enumerate(dict.fromkeys(row.subject for row in rows))}
    return tuple([row for row in rows if number[row.subject] // size == n] for n in range(len(number) // size))


def _subjects_in_turn(one: Iterable[Example], other: Iterable[Example]) -> list[str | None]:
    """The first patient of one group, the first of the other, the second of the one, and so on."""
    pairs = zip(*(dict.fromkeys(row.subject for row in rows) for rows in (one, other)), strict=True)
    return list(chain.from_iterable(pairs))


def _lines(rows: Iterable[Example]) -> str:
    """Examples in the shapes that the readers accept."""
    return "".join(json.dumps(_row(row), ensure_ascii=False) + "\n" for row in rows)


def _row(example: Example) -> dict[str, Any]:
    """One example as a JSON object."""
    fields: dict[str, Any] = {"id": example.id}
    if example.subject is not None:
        fields["subject"] = example.subject
    if isinstance(example.content, Completion):
        return fields | {"prompt": example.content.prompt, "completion": example.content.completion}
    if isinstance(example.content, Text):
        return fields | {"text": example.content.text}
    raise TypeError(f"the demo writes texts and completions only, not {type(example.content).__name__}")
