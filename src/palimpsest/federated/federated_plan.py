"""The plan of a federation, or of an erasure from one: all that decides what comes out, and what names it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import Field

from palimpsest import methods, metrics
from palimpsest.engine.plan import Plan, make_plan
from palimpsest.engine.plan_record import plan_digest
from palimpsest.engine.sections import Measuring, Section
from palimpsest.errors import PlanError
from palimpsest.federated import erasers
from palimpsest.federated.going_through import Combining
from palimpsest.method_card import MethodCard, configured
from palimpsest.models.families import Family
from palimpsest.models.sources import family_of
from palimpsest.source import code_digest
from palimpsest.version import VERSION

EVERY_FEDERATION = ("palimpsest.federated.federating", "palimpsest.federated.special_work")
"""The modules whose imports lead to all that it does; kinds of local work are imported by their words."""
FED_AVG = "fed_avg"
CLIENT = "client:"  # before the name of a client among the files of a plan
FLAG_OF = {"rounds": "--rounds", "epochs": "--epochs"}
_PLACES = {"kind", "model", "revision", "files", "digests"}


class FederatedPlan(Section):
    """All that defines a federation or an erasure; its digest names it."""

    kind: Literal["federate", "erase"]
    """Whether a federation learns, or one client is taken out of one that has."""
    method: str = FED_AVG
    """The procedure: fed_avg, or the eraser."""
    model: str
    """Folder or Hub name of the model that the federation starts from."""
    revision: str | None = None
    """Commit of a Hub name."""
    after: str = ""
    """Of an erasure: the version to erase from."""
    gone: str = ""
    """Of an erasure: the client that goes."""
    learned_for: str = ""
    """Eraser by whose own procedure the federation learned; "" = federated averaging."""
    files: dict[str, str]
    """"client:NAME" -> its rows, and set -> rows that are measured."""
    local: dict[str, Any]
    """Plan of the local work, but for places."""
    searches: bool = False
    """The rate of the local work was not given: the first round shows whether the usual one is one."""
    rounds: int | None = Field(default=None, ge=1, le=100_000)
    """Rounds; None = until the loss has stopped falling."""
    epochs: float = Field(default=2.0, gt=0, le=1_000_000)
    """Local passes of one round."""
    combining: Combining = Combining()
    """How answers are combined."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the procedure, where it is an eraser's."""
    retrains: bool = False
    """Of an erasure: retrain without that client from the start, to be compared with."""
    measuring: Measuring = Measuring()
    """What is measured before and after."""
    digests: dict[str, str] = Field(default_factory=dict)
    """What was read -> SHA-256 of its content."""

    @property
    def clients(self) -> dict[str, str]:
        """Name -> file, sorted by name."""
        given = {name.removeprefix(CLIENT): file for name, file in self.files.items() if name.startswith(CLIENT)}
        return dict(sorted(given.items()))

    @property
    def family(self) -> Family:
        """Of the model."""
        return family_of(self.model, self.revision)

    def local_plan(self) -> Plan:
        """The plan of the local work, as any learn run has one."""
        places = {"kind": "learn", "model": self.model, "revision": self.revision, "files": {"learn": ""}}
        return Plan.model_validate({**self.local, **places})

    def digest(self) -> str:
        """SHA-256 over all of it but the places that inputs were read from, the version, and the code that decides."""
        return plan_digest(self.model_dump(mode="json"), self.made_by())

    def made_by(self) -> dict[str, str]:
        """The version and the digest of the code that this plan is run by."""
        names = {self.method, self.learned_for} & set(erasers.names())
        by_name = [methods.file_of(self.local["method"]), *map(erasers.eraser_file, sorted(names)), *metrics.files()]
        return {"palimpsest": VERSION, "source": code_digest(EVERY_FEDERATION, by_name)}

    def written_down(self) -> dict[str, Any]:
        """What is written down of it."""
        return {"digest": self.digest(), **self.made_by(), **self.model_dump(mode="json")}


def plan_of_work(model: str, revision: str | None, method: str, sections: Mapping[str, Any]) -> Plan:
    """The plan of local work, at a fixed rate; LoRA where the model is a language model and nothing else was said.

    Args:
        model: folder or Hub name.
        revision: commit of a Hub name.
        method: a learner.
        sections: of a plan.

    Raises:
        PlanError: as ``make_plan``; or the method cannot learn by steps on one client's rows alone.
    """
    _refuse_method(methods.card(method))
    _refuse_other_ends(sections)
    family = family_of(model, revision)
    training = {"learning_rate": usual_local_rate(family, sections), **sections.get("training", {})}
    scope = {"kind": "all" if family.has_classes else "lora", **sections.get("scope", {})}
    if scope["kind"] == "parts":
        raise PlanError("scope.kind = parts: clients exchange weights of the model; accepted: lora, all, layers")
    fields = {"kind": "learn", "method": method, "model": model, "revision": revision, "files": {"learn": ""}}
    return make_plan(fields, {**sections, "training": training, "scope": scope, "control": {"kind": "none"}})


def usual_local_rate(family: Family, sections: Mapping[str, Any]) -> float:
    """Rate of AdamW where none was given: 0.002 for what has classes or is adapted by LoRA, 0.0003 for whole texts."""
    scope = sections.get("scope", {}).get("kind", "all" if family.has_classes else "lora")
    return 2e-3 if family.has_classes or scope == "lora" else 3e-4


def _refuse_method(card: MethodCard) -> None:
    """Refuse what is not steps of one loss over one client's rows."""
    why = _why_not_local(card)
    if why:
        able = [n for n in methods.names() if not _why_not_local(methods.card(n))]
        raise PlanError(f"method {card.name!r} {why}; accepted in a federation: {', '.join(able)}")


def _refuse_other_ends(sections: Mapping[str, Any]) -> None:
    """Refuse what would say when local work ends, beside the passes of a round; it would be told and not done."""
    if sections.get("control", {}).get("kind", "none") != "none":
        raise PlanError("control.kind: local work goes at a fixed rate, for the passes of a round; accepted: none")
    if "num_train_epochs" in sections.get("training", {}):
        raise PlanError("training.num_train_epochs: passes are those of a round; give --epochs")


def _why_not_local(card: MethodCard) -> str:
    """Why a method cannot be local work, in words; "" = it can."""
    if "learn" not in card.kinds:
        return "does not learn"
    if card.needs != ("learn",) or card.one_of:
        return "needs more than the rows of one client"
    if any((card.adds_parts, card.sharded, card.isolates, card.edits, card.needs_part)):
        return "changes the model by more than steps of its weights"
    goes_on = any((card.reads, card.keeps, card.starts_from == "base"))
    return "goes on from a history beside the model" if goes_on else ""


def federated_plan(local: Plan, files: Mapping[str, str], asked: Mapping[str, Any]) -> FederatedPlan:
    """The plan of a federation.

    Args:
        local: of the local work.
        files: ``FederatedPlan.files``.
        asked: other fields; None where not given.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    values = local.model_dump(mode="json", exclude=_PLACES)
    if "measuring" not in given:
        classes = family_of(local.model, local.revision).has_classes
        given["measuring"] = Measuring(metrics=("accuracy",) if classes else ("es", "ma"))
    fields = {"model": local.model, "revision": local.revision, "files": dict(files), "local": values, **given}
    return cast("FederatedPlan", configured("federated run", FederatedPlan, fields, FLAG_OF))
