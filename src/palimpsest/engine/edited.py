"""What an edit did, for the record: the neurons it names, and what a linear probe finds before and after it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palimpsest import methods
from palimpsest.audit.linear_probe import Probed
from palimpsest.companions.learned import read_record
from palimpsest.engine.outcome import RunSetting
from palimpsest.engine.output import Output
from palimpsest.engine.probing import halves_of, probed_apart, rows_to_probe
from palimpsest.loop.editing import EDIT_FILE
from palimpsest.models.class_samples import Entered, entered, of_positions, thinned
from palimpsest.models.load import Loaded
from palimpsest.printed import printable
from palimpsest.report.edit_info import EditInfo, NeuronRow, ProbeRow


@dataclass(frozen=True)
class Features:
    """What enters the head for what must go and for what stays.

    Attributes:
        goes: of the forget set, or of unseen rows of it.
        stays: of the retain set.
        fold_of: set -> half that each of its rows is in.
    """

    goes: Entered
    stays: Entered
    fold_of: Mapping[str, torch.Tensor]


def features_of(run: RunSetting, loaded: Loaded) -> Features | None:
    """What a probe of an edit is asked about; None for a run that edits nothing, or has nothing to compare.

    Args:
        run: opened.
        loaded: the model before or after, on its device.
    """
    card, sets = methods.card(run.plan.method), run.sets
    head = loaded.family.head(loaded.model)
    if not (card.edits and card.approach == "editing") or not {"forget", "retain"} <= sets.keys() or head is None:
        return None
    ids = {name: rows_to_probe(sets[name].ids, run.plan.training.seed) for name in _probed_sets(run)}
    run.manner.progress("probing the features", 0, 1)
    goes, stays = (thinned(entered(loaded.model, head, sets[name], ids[name])) for name in ids)
    return Features(goes, stays, {name: halves_of(len(rows)) for name, rows in ids.items()})


def _probed_sets(run: RunSetting) -> tuple[str, str]:
    return ("unseen" if "unseen" in run.sets else "forget"), "retain"


def edited(run: RunSetting, target: Output, before: Features | None, saved: Loaded) -> EditInfo | None:
    """What the edit of a run did; None where it made none, or nothing is known of it.

    Args:
        run: what was run.
        target: where it is written; held.
        before: features of the model before.
        saved: the model after, on its device.
    """
    path = target.partial / EDIT_FILE
    why = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not why and before is None:
        return None
    classes = _classes_in(why.get("neurons", ()))
    after = features_of(run, saved)
    found = {"before": _probe(before, classes), "after": _probe(after, classes)}
    rows = {column: ProbeRow(recall=one.recall, false=one.false) for column, one in found.items() if one is not None}
    names = _names(saved, classes)
    return EditInfo(
        set=why.get("set", ""),
        samples=why.get("samples", 0),
        without_samples=why.get("without_samples", 0),
        learned=_learned(run, why.get("set", "")),
        changed=tuple(why.get("changed", ())),
        neurons=tuple(_row(row, names) for row in why.get("neurons", ())),
        probe=rows if len(rows) == len(found) else {},
        probed=f"{_probed_sets(run)[0]} {run.family.things}s" if run.family.has_classes else "what was to go",
    )


def _classes_in(rows: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Those that neurons went for, in their order; none where whole rows were to go."""
    return tuple(dict.fromkeys(row["class"] for row in rows if "class" in row))


def _row(said: Mapping[str, Any], names: Mapping[int, str]) -> NeuronRow:
    """A neuron of ``edit.json``, its class by name."""
    about = {"about": names[said["class"]]} if "class" in said else {}
    return NeuronRow(**{key: value for key, value in said.items() if key != "class"}, **about)


def _probe(features: Features | None, classes: Sequence[int]) -> Probed | None:
    """Recall and false alarms; of a language model at the positions where the classes are said."""
    if features is None:
        return None
    goes, stays = features.goes, features.stays
    if classes:
        goes = of_positions(goes, torch.isin(goes.target_S, torch.tensor(classes)))
    if not len(goes.target_S):
        return None
    return probed_apart(goes, stays, *features.fold_of.values())


def _names(saved: Loaded, classes: Sequence[int]) -> dict[int, str]:
    """What the classes are called: by the model's own names, of a text by the token."""
    if saved.family.has_classes:
        names = {number: name for name, number in saved.class_names.items()}
        return {label: names.get(label, str(label)) for label in classes}
    if saved.tokenizer is None:
        return {label: f"token {label}" for label in classes}
    return {label: printable(repr(saved.tokenizer.decode([label]))) for label in classes}


def _learned(run: RunSetting, name: str) -> int | None:
    """Of the samples that were looked at, those that the model had learned."""
    record = read_record(run.plan.model)
    if record is None or record.elsewhere or name not in run.read.examples:
        return None
    return sum(map(record.has_learned, run.read.examples[name]))
