"""Parts of another learner that would stand in the way of a run that learns classes: refused before rows are read.

A class head answers in the place of the model's own and knows its classes by their numbers; prompts, adapters and
further backbones were tuned for the model as it was without those of another learner. Importing this imports no torch.
"""

from __future__ import annotations

from typing import NamedTuple

from palimpsest import methods
from palimpsest.engine.handing_on import start_of
from palimpsest.engine.plan import Plan
from palimpsest.errors import PlanError
from palimpsest.models.parts.parts_folder import bears_parts, parts_in, record_in


class BornePart(NamedTuple):
    """A part of the version that a run starts from.

    Attributes:
        number: its place, as ``palimpsest parts`` takes it.
        kind: of the part.
        method: that made it; "" where nothing tells.
        is_class_head: it answers in the place of the model's head.
    """

    number: int
    kind: str
    method: str
    is_class_head: bool

    @property
    def words(self) -> str:
        """Such as "part 'class_means' by simple_cil"."""
        return f"part {self.kind!r}" + (f" by {self.method}" if self.method else "")


def borne_parts(plan: Plan) -> tuple[BornePart, ...]:
    """The parts of the version that a run starts from, oldest first."""
    start = start_of(plan)
    return tuple(_borne(n, record_in(part)) for n, part in enumerate(parts_in(start))) if bears_parts(start) else ()


def _borne(number: int, record: object) -> BornePart:
    said = record if isinstance(record, dict) else {}
    made = said.get("made_by")
    method = str(made.get("method", "")) if isinstance(made, dict) else ""
    return BornePart(number, str(said["kind"]), method, {"at", "width", "classes"} <= said["config"].keys())


def check_other_parts(plan: Plan) -> None:
    """Refuse to teach classes beside parts with which the outcome would be what nobody meant.

    Raises:
        PlanError: names the part and the ways out.
    """
    if "learn" not in plan.files:
        return
    borne = borne_parts(plan)
    _check_grown(plan, borne)
    others = [part for part in borne if part.method != plan.method and _is_alone(part)]
    if others and methods.card(plan.method).tunes_alone:
        raise PlanError(
            f"method {plan.method!r} tunes parts of its own, and model {plan.model} bears {others[-1].words}, which "
            f"was tuned without them: both together answer as neither learned to; {_ways_out(plan, borne, others[-1])}"
        )


def _check_grown(plan: Plan, borne: tuple[BornePart, ...]) -> None:
    heads = [part for part in borne if part.is_class_head]
    if plan.head is None or not heads:
        return
    if plan.head.kind == "new" or not methods.card(plan.method).makes_head:
        stands = heads[-1]
        raise PlanError(f"head = {plan.head.kind}: {_why_not_grown(plan, stands)}; {_ways_out(plan, borne, stands)}")


def _is_alone(part: BornePart) -> bool:
    return not part.is_class_head and part.method in methods.names() and methods.card(part.method).tunes_alone


def _why_not_grown(plan: Plan, head: BornePart) -> str:
    answers = f"{head.words} of model {plan.model} answers in the place of the head"
    if plan.head is not None and plan.head.kind == "new":
        return f"{answers}, for classes that a new one does not have"
    return f"{answers}, and method {plan.method!r} would teach the new classes to the head that nobody asks"


def _ways_out(plan: Plan, borne: tuple[BornePart, ...], stands: BornePart) -> str:
    """The method that made a part, or a version without all that it made."""
    of_it = [part for part in borne if part is stands or (part.method and part.method == stands.method)]
    grow = "--head grow " if plan.head is not None else ""
    same = f"{grow}with --method {stands.method}, or " if stands.method else ""
    removed = " ".join(f"--remove {part.number}" for part in of_it)
    without = "it" if len(of_it) == 1 else "what that made"
    return f"accepted: {same}a version without {without} (palimpsest parts {start_of(plan)} {removed} --output DIR)"
