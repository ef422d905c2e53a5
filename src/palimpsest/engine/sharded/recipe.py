"""By what a sharded version was learned, and all that is refused of a sharded run before a weight is read. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from palimpsest import companions, methods
from palimpsest.companions.learned import read_record
from palimpsest.companions.marks import KEY_VARIABLE, key_file, own_key
from palimpsest.companions.shards import Shards, first_slices
from palimpsest.data.read.examples import set_digest
from palimpsest.engine.handing_on import start_of
from palimpsest.engine.inputs import Read
from palimpsest.engine.plan import Plan
from palimpsest.engine.sections import Encoding
from palimpsest.errors import DataError, PlanError
from palimpsest.in_words import so_many
from palimpsest.loop.training import Training
from palimpsest.models.parts.parts_folder import part_kinds_in
from palimpsest.models.plain import read_json_object
from palimpsest.records import Example

KIND = "shards"
OWN_CHOICE = frozenset({"processes", "from_base"})  # options that decide no bit
_DECIDES_NOTHING = frozenset({"checkpoint_steps"})
REPLAY = "replay"
_SECTIONS = ("options", "training", "encoding")


class Recipe(NamedTuple):
    """How rows were cut and learned, and are learned again.

    Attributes:
        options: of the method.
        training: of every slice.
        encoding: of the rows.
        replay: digest of what every slice rehearses beside its rows; "" = nothing.
    """

    options: Mapping[str, Any]
    training: Mapping[str, Any]
    encoding: Mapping[str, Any]
    replay: str = ""

    @property
    def shards(self) -> int:
        """How many."""
        return int(self.options["shards"])

    @property
    def slices(self) -> int:
        """Of each shard."""
        return int(self.options["slices"])

    @property
    def seed(self) -> int:
        """Of the cut, of the adapters and of the steps."""
        return int(self.training["seed"])

    @property
    def epochs(self) -> float:
        """Passes over all rows that the slices of a shard cost together."""
        return float(self.training["num_train_epochs"])


def recipe_in(plan: Plan) -> Recipe:
    """The recipe that a plan asks for."""
    values = {name: plan.model_dump(mode="json")[name] for name in _SECTIONS}
    options = {name: value for name, value in values["options"].items() if name not in OWN_CHOICE}
    training = {name: value for name, value in values["training"].items() if name not in _DECIDES_NOTHING}
    return Recipe(options, training, values["encoding"], plan.digests.get(REPLAY, ""))


def is_sharded(plan: Plan) -> bool:
    """Is this a run of such a method?"""
    return methods.card(plan.method).sharded


def shards_beside(plan: Plan) -> Shards | None:
    """The checkpoints beside the version that a run starts from; None where there are none.

    Raises:
        ModelError: they are damaged, or were recorded with another key.
    """
    start, key = start_of(plan), own_key()
    if key is None or KIND not in companions.kinds_in(start):
        return None
    return Shards.open(companions.companion_place(KIND, start), key)


def with_recipe(plan: Plan) -> Plan:
    """A plan to unlearn, by the recipe that its version was learned by; any other as it is.

    Raises:
        PlanError: something else than the recipe was asked for.
    """
    shards = shards_beside(plan) if is_sharded(plan) and plan.kind == "unlearn" else None
    if shards is None:
        return plan
    recipe, own = dict(shards.index.recipe), plan.model_dump(mode="json")
    for name, usual in _usual(plan).items():
        for option, learned in dict(recipe[name]).items():
            asked = own[name].get(option)
            if asked not in (learned, usual.get(option)):
                section = plan.method if name == "options" else name
                raise PlanError(
                    f"{section}.{option} = {asked!r}, and {plan.model} was learned with {learned!r}, by which its "
                    "shards are learned again; leave it out"
                )
    made = {name: {**own[name], **recipe[name]} for name in _SECTIONS}
    return plan.model_copy(
        update={
            "options": made["options"],
            "training": Training.model_validate(made["training"]),
            "encoding": Encoding.model_validate(made["encoding"]),
        }
    )


def _usual(plan: Plan) -> dict[str, dict[str, Any]]:
    """What a plan says where nothing was asked for."""
    card = methods.card(plan.method)
    return {
        "options": card.configured({}).model_dump(mode="json"),
        "training": Training(**card.defaults).model_dump(mode="json"),
        "encoding": {**Encoding().model_dump(mode="json"), "separator": plan.encoding.separator},
    }


def check_sharded(plan: Plan) -> None:
    """Refuse, before any row is read, what a sharded run cannot do.

    Raises:
        PlanError: something beside it would change what a slice learns; or there is nothing to go back to.
    """
    if not is_sharded(plan):
        return
    for problem in _beside(plan):
        raise PlanError(f"method {plan.method!r}: {problem}")
    if own_key() is None:
        raise PlanError(
            f"{key_file()} cannot be written, and whose slices are kept could not be told; set {KEY_VARIABLE}"
        )
    if plan.kind == "unlearn":
        _check_learned_so(plan)
    elif shards_beside(plan) is not None or "ensemble" in part_kinds_in(start_of(plan)):
        raise PlanError(
            f"{plan.model} is an ensemble of shards already; learn all rows at once, from the model that it began with"
        )


def _check_learned_so(plan: Plan) -> None:
    """There is something to go back to, and what stays is given."""
    if shards_beside(plan) is None:
        raise PlanError(
            f"method {plan.method!r} goes back to what {plan.model} kept when it learned, and there are no shards "
            f"beside it; learn with --method {plan.method}, or use another method"
        )
    if "retain" not in plan.files:
        raise PlanError(
            f"method {plan.method!r} learns what stays in the shards that are hit again; give it with --retain FILE: "
            f"{learned_from(plan)}, without the rows to forget (if none stays, use the model that it began with)"
        )


def _beside(plan: Plan) -> Iterator[str]:
    """What was asked for that does not go together with slices, in words."""
    training = plan.training
    if plan.control.kind == "auto":
        yield "control.kind = auto looks at what is forgotten, and slices are learned as if that were not; leave it out"
    if training.max_steps is not None or training.max_seconds is not None:
        yield "a slice is learned for so many passes; leave max_steps and max_seconds out, give num_train_epochs"
    if training.pack_by is not None or training.order != "shuffled":
        yield "a slice is gone over in an order of its own; leave training.pack_by and training.order out"
    if plan.scope.kind != "parts":
        yield f"scope.kind = {plan.scope.kind}: its adapters alone move; leave it out"
    for name in _lost_with_rows(plan):
        yield f"{name} would not be the same without the rows that go; leave it out"


def _lost_with_rows(plan: Plan) -> list[str]:
    """What was asked for that would be another without the rows that go."""
    asked = {name: getattr(plan, name) for name in ("rules", "controls", "refine", "restore", "diversify")}
    return [name for name, value in {**asked, "repair.steps": plan.repair.steps}.items() if value]


def check_sharded_rows(plan: Plan, read: Read) -> None:
    """Refuse rows with which the shards that are hit cannot be learned again, and checkpoints that are not there.

    Raises:
        DataError: rows of these shards are not among those that stay, or say something else.
        ModelError: a checkpoint is missing or damaged.
    """
    shards = shards_beside(plan) if is_sharded(plan) and plan.kind == "unlearn" else None
    if shards is not None:
        _check_against(plan, read, shards)


def _check_against(plan: Plan, read: Read, shards: Shards) -> None:
    """Hold rows against the checkpoints that they are to be learned with again."""
    from palimpsest.engine.sharded.cutting import courses_to_unlearn

    _check_rehearsed(plan, shards, read)
    retain, forget = read.examples["retain"], read.examples["forget"]
    kept, gone = shards.place_of([e.id for e in retain]), shards.place_of([e.id for e in forget])
    hit = first_slices(gone.values()).keys()
    _check_all_there(plan, shards, hit, sum(shard in hit for shard, _ in (*kept.values(), *gone.values())))
    _check_unchanged(plan, [example for example in retain if kept.get(example.id, (-1, 0))[0] in hit])
    if not kept:
        raise DataError(f"no row that {plan.model} learned would stay; use the model that it began with")
    from_base = bool(plan.options["from_base"])
    courses_to_unlearn(kept, frozenset(gone.values()), recipe_in(plan), None if from_base else shards)


def _check_unchanged(plan: Plan, again: Sequence[Example]) -> None:
    """Rows that are learned again say what they said."""
    record = read_record(plan.model)
    other = None if record is None else next((one for one in again if record.has_learned_otherwise(one)), None)
    if other is not None:
        raise DataError(f"{other.name}: {plan.model} learned something else under this id; give the rows as they were")


def _check_rehearsed(plan: Plan, shards: Shards, read: Read) -> None:
    """What was rehearsed beside the rows is rehearsed again."""
    learned, given = shards.index.recipe.get(REPLAY, ""), read.examples.get(REPLAY)
    if learned and given is None:
        raise PlanError(f"{plan.model} learned with a replay set beside its rows; give it again with --replay FILE")
    if given is not None and set_digest(given) != learned:
        what = "another replay set" if learned else "no replay set"
        raise DataError(f"{plan.model} learned with {what}; {'give that one' if learned else 'leave --replay out'}")


def _check_all_there(plan: Plan, shards: Shards, hit: Collection[int], there: int) -> None:
    """All rows of the shards that are hit stay or go."""
    known = sum(len(one.who) for shard, _, one in shards.index.slices() if shard in hit)
    if there < known:
        raise DataError(
            f"{so_many(known - there, 'row')} of the {so_many(len(hit), 'shard')} to learn again are neither in "
            f"--forget nor in --retain; give all that must stay of {learned_from(plan)} with --retain FILE"
        )


def learned_from(plan: Plan) -> str:
    """Where the rows of the version that a run starts from came from, as its record says."""
    files = read_json_object(start_of(plan) / "plan.json").get("files")
    named = files if isinstance(files, dict) else {}
    return str(named.get("learn") or named.get("retain") or "the rows that it learned")
