"""The sections of a plan that no other room owns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from palimpsest import methods
from palimpsest.chosen import Chosen
from palimpsest.errors import PlanError
from palimpsest.method_card import MethodCard
from palimpsest.untrusted import parse_json


class Section(Chosen):
    """Base of the plan's parts: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Repairing(Section):
    """Steps that bring what must stay back to the model before, by divergence; of any method."""

    steps: int = Field(default=0, ge=0)
    """After each iteration of a run at fixed rates; a controlled run chooses for itself."""
    rows: int = Field(default=20, ge=2)
    """Examples of one step."""


class Restoring(Section):
    """How much of what must stay is given back after a run (``palimpsest calibrate``); the saved model is judged."""

    share: float = Field(default=0.95, gt=0, le=1)
    """Of the metric before, on rows that must stay: the most of the change is kept that leaves so much."""
    metric: str | None = None
    """Of which; None = es of texts, accuracy of images."""
    tolerance: float = Field(default=1 / 64, gt=0, le=1)
    """The share of the change that is kept may be so much too small."""
    rows: int = Field(default=400, ge=1)
    """At most so many rows are held out of retain for it, and asked."""


class Measuring(Section):
    """What is measured before and after, and how."""

    metrics: tuple[str, ...] = ("es", "ma", "el", "prob")
    """Metrics on every set but general text, where it is perplexity alone."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Metric -> its options."""
    limit: int = Field(default=1000, ge=1)
    """At most so many examples per set, drawn with the run's seed."""
    decoded_limit: int = Field(default=100, ge=1)
    """Of these at most so many for a metric that decodes every prefix, as el does."""


class HeadChoice(Section):
    """What becomes of a classifier's head where the rows to learn have classes that it does not know."""

    kind: Literal["grow", "new"] = "grow"
    """grow = their classes are added to it; new = it knows them alone from then on, as behind a backbone."""
    added: tuple[str, ...] = ()
    """Their names, in the order of its rows; filled in by their first appearance among the rows to learn."""


class Augment(Section):
    """What may happen to an image while it is trained on."""

    padding: int = Field(default=4, ge=0, le=1000)
    """Pixels padded on each side before a random crop; 0 = no crop."""
    mirror: bool = True
    """Mirror half of the images; wrong for digits and letters."""


class Encoding(Section):
    """How examples become what a model takes."""

    max_length: int | None = Field(default=None, ge=2)
    """Longest sequence in tokens; None = what the model can take."""
    truncate: bool = False
    """Cut longer examples instead of refusing them."""
    separator: str | None = None
    """Stands between a prompt and its completion, e.g. a blank; None = as the run had it that made the model, else
    nothing."""
    augment: Augment | None = None
    """Random crops and mirror images of the images that are trained on; None = as they are."""


def as_taught(encoding: Encoding, model: str | Path) -> Encoding:
    """The encoding with its separator decided: a model is asked as it was taught.

    Args:
        encoding: as given.
        model: folder of the model; what a run of ours wrote says how it was taught.
    """
    if encoding.separator is not None:
        return encoding
    try:
        taught = parse_json((Path(model) / "plan.json").read_text(encoding="utf-8"))["encoding"]["separator"]
    except (OSError, ValueError, KeyError, TypeError):
        taught = None
    return encoding.model_copy(update={"separator": taught if isinstance(taught, str) else ""})


def scope_section(given: Any, method: MethodCard) -> Mapping[str, Any]:
    """The scope section: of a method that adds parts they alone move.

    Args:
        given: what was said of it, a mapping or a section.
        method: of the run.

    Raises:
        PlanError: parts alone are to move, and the method adds none; or it does, and something else is to move.
    """
    said: Mapping[str, Any] = given if isinstance(given, Mapping) else given.model_dump(exclude_unset=True)
    _refuse_scope(said, method)
    default = {"kind": "all" if method.moves_all else "parts"} if method.adds_parts else {}
    return {**default, **said}


def _refuse_scope(said: Mapping[str, Any], method: MethodCard) -> None:
    """Parts that are trained move alone, and only parts that there are."""
    if method.adds_parts and not method.moves_all and said.get("kind", "parts") != "parts":
        raise PlanError(
            f"scope.kind = {said['kind']}: method {method.name!r} trains parts that it adds, and under another scope "
            "it would move the model that they are held against; accepted: parts, its default (leave scope out)"
        )
    if said.get("kind") == "parts" and not method.adds_parts:
        able = [name for name in methods.names() if methods.card(name).adds_parts]
        raise PlanError(
            f"scope.kind = parts: method {method.name!r} adds no part to the model; accepted: all, lora or layers "
            "(for parts of earlier runs alone: scope.kind=layers with scope.names=[palimpsest_parts]), or a method that "
            f"adds parts ({', '.join(able) or 'none here'})"
        )
