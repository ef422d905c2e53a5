"""The level of "never seen": what the model would know of each forget row had it never learned it.

Best source first, and each says how far it can be trusted:

* the **oracle**, when one is given: its own reading of the rows;
* for texts the **shadow** (``shadow.py``) of retain + replay, its MA moved by

      c = MA(model, holdout) − MA(shadow of all learned rows, holdout) + 0.05       with a holdout
      c = min(0.06, MA(model, general) − MA(shadow, general))                       with general text
      c = the mean of the two with both, 0.06 with neither

  General text calibrates where a replay set was given, of whose kind it is: a shadow that never saw such text knows
  nothing of it, and the difference would say nothing of the forget set.
  A difference beyond ``TRUSTED`` on either says that this model generalises unlike any n-gram: the run may end on that
  level, but nothing can pass on it. The constants come from 12 requests on 4 worlds (docs/log.md);
* for classes 0 for one that the retain set has no example of, since nobody predicts a class never shown; else the
  accuracy on the holdout, class by class, or over all of it for a class that it lacks, where nothing can pass; of texts
  apart for those whose words tell their class and those whose words do not (``word_shadow.py``). Without
  a holdout there is no level, and the run is refused: whatever it aimed at would be a guess.

A bare holdout is no level for texts: rows about people whom the model knows are easier than rows about one it does not.
Nothing here is read from an oracle that was not given, and no forget row changes the shadow.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from palimpsest.control.readings import Reading, RowReading
from palimpsest.control.word_shadow import ToldByWords
from palimpsest.errors import PlanError

_Source = Literal["oracle", "shadow", "holdout", "classes"]
ALONE = 0.06  # MA: mean of oracle minus shadow where nothing calibrates it
BESIDE_HOLDOUT = 0.05  # MA: what a holdout's difference leaves over
TRUSTED = 0.2  # MA: larger differences are of another kind of model
LEAST_ES = 0.05  # a first token is right by chance now and then


@dataclass(frozen=True)
class Level:
    """Where a forget set should end.

    Attributes:
        source: where it comes from.
        reading: per row: MA (moved by ``correction``), ES and nats of a model that never saw it.
        correction: added to each row's MA.
        differences: set that it was calibrated on -> MA of the model minus that of the shadow.
        doubt: why nothing may pass on this level, or "".
        things: what one example is called where MA and ES are both accuracy; "" of token predictions.
        by_words: do rows of one class differ, by what their words tell?
    """

    source: _Source
    reading: Reading
    correction: float = 0.0
    differences: Mapping[str, float] = field(default_factory=dict)
    doubt: str = ""
    things: str = ""
    by_words: bool = False

    @property
    def of_classes(self) -> bool:
        """Are MA and ES both accuracy, of rows that are right or wrong?"""
        return bool(self.things)

    @property
    def ma(self) -> float:
        """Mean over rows."""
        return self.reading.ma

    @property
    def es(self) -> float:
        """Mean over rows, at least ``LEAST_ES``."""
        return max(LEAST_ES, self.reading.es)

    @property
    def sentence(self) -> str:
        """In words, with its numbers."""
        numbers = f"MA {self.ma:.2f}, ES {self.reading.es:.2f}, {self.reading.nats:.2f} nats per token"
        if self.things:
            numbers = f"accuracy {self.ma:.2f}, {self.reading.nats:.2f} nats per {self.things}"
        if self.source == "oracle":
            return f"the oracle's own reading: {numbers}"
        if self.source in ("holdout", "classes"):
            apart = ", and by whether its words tell the class" if self.by_words else ""
            whence = "accuracy on the holdout, class by class" if self.source == "holdout" else "no class of it stays"
            return f"accuracy {self.ma:.2f}: {whence}{apart}"
        seen = " and ".join(f"{value:+.2f} on the {name} set" for name, value in self.differences.items())
        whence = f", between model and shadow {seen}" if seen else ""
        return f"an n-gram shadow of what stays: {numbers} (MA moved by {self.correction:+.2f}{whence})"


def moved(shadow: Reading, correction: float) -> Reading:
    """The shadow's rows with their MA moved, within [0, 1]."""
    rows = {i: row._replace(ma=min(1.0, max(0.0, row.ma + correction))) for i, row in shadow.rows.items()}
    return Reading(rows)


def from_oracle(oracle: Reading, *, things: str = "") -> Level:
    """The level that a given oracle shows."""
    return Level("oracle", oracle, things=things)


def from_shadow(
    shadow: Reading,
    *,
    holdout: tuple[Reading, Reading] | None = None,
    general: tuple[Reading, Reading] | None = None,
    empty: bool = False,
) -> Level:
    """The level that a shadow shows, calibrated.

    Args:
        shadow: its reading of the forget rows.
        holdout: the model's reading of the holdout, and that of a shadow of all learned rows.
        general: the model's reading of general text, and that of the shadow.
        empty: the shadow had nothing to be made of.
    """
    corrections, differences = [], {}
    if holdout is not None:
        differences["holdout"] = holdout[0].ma - holdout[1].ma
        corrections.append(differences["holdout"] + BESIDE_HOLDOUT)
    if general is not None:
        differences["general"] = general[0].ma - general[1].ma
        corrections.append(min(ALONE, differences["general"]))
    correction = sum(corrections) / len(corrections) if corrections else ALONE
    doubt = _NOTHING_STAYS if empty else "" if corrections else _NOTHING_CALIBRATES
    for name, difference in differences.items():
        if abs(difference) > TRUSTED:
            doubt = (
                f"the level of never seen is uncertain: this model scores {difference:+.2f} MA beside its n-gram "
                f"shadow on the {name} set, and a difference above {TRUSTED:.1f} is that of another kind of model"
            )
    return Level("shadow", moved(shadow, correction), correction, differences, doubt)


_NO_CLASS_STAYS = "the level of never seen is uncertain: there is no retain or replay set to tell which classes stay"
_NOTHING_CALIBRATES = (
    "what a model scores that never saw these rows is only estimated here, and nothing given to the run checks the "
    "estimate"
)
_NOTHING_STAYS = "the level of never seen is uncertain: there is no retain or replay set to make a shadow of"


def from_classes(
    labels: Mapping[str, int],
    staying: frozenset[int],
    holdout: Mapping[int, Mapping[str, RowReading]],
    things: str = "image",
    told: ToldByWords | None = None,
) -> Level:
    """The level of classes.

    Args:
        labels: forget id -> class.
        staying: classes that the retain or replay set has images of.
        holdout: class -> id -> reading of an unseen example of it, under the model before.
        things: what one example is called.
        told: whether words tell the class of a row; None where there are none.

    Raises:
        PlanError: classes of the forget set stay, and there is no holdout at all.
    """
    stay = bool(staying & set(labels.values()))
    if stay and not holdout:
        raise PlanError(
            f"classes of the forget set stay, and nothing shows what a model scores on {things}s of them that it never "
            "saw; give --holdout FILE, --oracle DIR, or --base DIR --make-oracle"
        )
    rows, doubt = {}, "" if staying else _NO_CLASS_STAYS
    everything = dict(ChainMap(*map(dict, holdout.values())))
    for example_id, label in labels.items():
        if label not in staying:
            rows[example_id] = RowReading(0.0, 1, 0.0, 0.0)
            continue
        if label not in holdout:
            doubt = f"the level of never seen is uncertain: the holdout has no {things} of class {label}, which stays"
        rows[example_id] = _expected(example_id, holdout.get(label, everything), told)
    source: _Source = "holdout" if stay else "classes"
    return Level(source, Reading(rows), doubt=doubt, things=things, by_words=stay and told is not None)


def _expected(example_id: str, unseen: Mapping[str, RowReading], told: ToldByWords | None) -> RowReading:
    """What is to expect of one example of a class, from unseen ones of it.

    Where words tell, (Σ of those alike + mean of all) / (number of those alike + 1): of few alike, all count too.
    """
    of_all = _mean_of(unseen.values())
    if told is None:
        return of_all
    alike = [row for i, row in unseen.items() if told.unseen[i] == told.forget[example_id]]
    return _mean_of([*alike, of_all])


def _mean_of(readings: Collection[RowReading]) -> RowReading:
    """What is to expect of one example, from readings of others."""
    accuracy = sum(row.ma for row in readings) / len(readings)
    return RowReading(sum(row.nats for row in readings) / len(readings), 1, accuracy, accuracy)
