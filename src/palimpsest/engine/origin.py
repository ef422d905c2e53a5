"""Is an oracle one? A model that learned the forget set cannot show what a model scores that never saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.companions.learned import LEARNED_FILE, read_record
from palimpsest.engine.plan import Plan
from palimpsest.errors import PlanError
from palimpsest.in_words import so_many
from palimpsest.models.parts import ATTRIBUTE as PARTS
from palimpsest.records import Example
from palimpsest.report.schema import Origin

if TYPE_CHECKING:  # what records tell is asked before torch is imported
    import torch
    from torch import Tensor, nn

    from palimpsest.models.load import Loaded

CURE_OF_BASE = "give the model as it was before it learned the forget set"
_CURE = "give a model retrained without the forget set, or --base DIR --make-oracle to have one made"


def check_oracle(plan: Plan, forget: Sequence[Example]) -> Origin | None:
    """Refuse an oracle that is the model, or whose record holds ids of the forget set.

    An oracle that is the base untouched is taken: it never saw the forget set, and where nothing but that was learned,
    it is the exact oracle. Where the model knows the retain set and the base does not, nothing can pass beside it
    (``oracle_taught.py``).

    Args:
        plan: with the digests of its models.
        forget: the forget set; empty without one.

    Returns:
        How far the oracle's origin is known; None without an oracle.

    Raises:
        PlanError: it is the model, or learned what is to be forgotten.
    """
    if plan.oracle is None:
        return None
    if plan.digests["oracle"] == plan.digests["model"]:
        raise PlanError(_is_the_model(plan))
    _refuse_record(plan.oracle, "--oracle", forget, _CURE)
    if plan.digests["oracle"] == plan.digests.get("base"):
        return "base"
    record = read_record(plan.oracle)
    return "unknown" if record is None or record.elsewhere else "recorded"


def check_base(plan: Plan, forget: Sequence[Example]) -> None:
    """Refuse a base that is the model, or whose record holds ids of the forget set: what starts there knows them.

    Raises:
        PlanError: it does.
    """
    if plan.base is None or not forget:
        return
    if plan.digests["base"] == plan.digests["model"]:
        raise PlanError(_base_is_the_model(plan))
    _refuse_record(plan.base, "--base", forget, CURE_OF_BASE)


def check_makeable(plan: Plan) -> None:
    """Can an oracle be made for this plan?

    Raises:
        PlanError: it has one, or something that a retraining needs was not given.
    """
    if plan.oracle is not None:
        raise PlanError("--make-oracle and --oracle were both given; give one of them")
    if "forget" not in plan.files:
        raise PlanError("--make-oracle retrains without the forget set, and there is none; give it with --forget FILE")
    if plan.base is None:
        raise PlanError("--make-oracle retrains from the model before it learned anything; give it with --base DIR")
    if "retain" not in plan.files:
        raise PlanError("--make-oracle retrains on what must stay; give it with --retain FILE")


def check_records(plan: Plan, forget: Sequence[Example], *, retrains: bool) -> None:
    """What of ``check_oracle`` and ``check_base`` shows without reading any weights.

    Args:
        plan: of the run.
        forget: the forget set; empty without one.
        retrains: something of the run starts from the base.

    Raises:
        PlanError: an oracle or a base that is the model's own folder, or whose record holds ids of the forget set.
    """
    if plan.oracle is not None:
        if _one_place(plan.oracle, plan.model):
            raise PlanError(_is_the_model(plan))
        _refuse_record(plan.oracle, "--oracle", forget, _CURE)
    if plan.base is not None and retrains and forget:
        if _one_place(plan.base, plan.model):
            raise PlanError(_base_is_the_model(plan))
        _refuse_record(plan.base, "--base", forget, CURE_OF_BASE)


def _one_place(one: str, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def check_weights(before: Loaded, oracle: Loaded, plan: Plan) -> None:
    """Refuse an oracle whose weights are the model's though the files differ: renamed, cut otherwise, rounded.

    One of another shape is refused, too: what it scores on rows that it never saw is nothing that this model would.

    Raises:
        PlanError: they are, or it has one.
    """
    if same_weights(before.model, oracle.model):
        raise PlanError(_is_the_model(plan))
    mine, its = _shapes(before.model), _shapes(oracle.model)
    other = [name for name in (mine if mine.keys() - its.keys() else its) if mine.get(name) != its.get(name)]
    if other:
        sizes = f"{_told(mine, other[0])} in the model, {_told(its, other[0])} in the oracle"
        raise PlanError(
            f"--oracle {plan.oracle} is another model than --model {plan.model}: {so_many(len(other), 'shape')} "
            f"differ, e.g. {other[0]} ({sizes}); {_CURE}, of the same shape"
        )


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of all parameters but those of parts and adapters beside the model, by name."""
    own = {n: tuple(p.shape) for n, p in model.named_parameters() if f"{PARTS}." not in n and ".lora_" not in n}
    return {name.removeprefix("base_model.model.").replace(".base_layer.", "."): shape for name, shape in own.items()}


def _told(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return "x".join(map(str, shapes[name])) if name in shapes else "none"


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Do two models hold the same numbers, as they are or as rounding one of them to half precision leaves them?"""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)


def _same(one: Tensor, other: Tensor) -> bool:
    import torch

    if one.shape != other.shape:
        return False
    one, other = one.cpu(), other.cpu()
    if torch.equal(one.to(other.dtype), other):
        return True
    if not (one.is_floating_point() and other.is_floating_point()):
        return False
    a, b = one.float(), other.float()
    halves = (torch.bfloat16, torch.float16)
    return any(torch.equal(_rounded(a, half), b) or torch.equal(a, _rounded(b, half)) for half in halves)


def _rounded(values: Tensor, half: torch.dtype) -> Tensor:
    return values.to(half).float()


def _base_is_the_model(plan: Plan) -> str:
    return f"--base {plan.base} is --model itself: a model retrained from it knows the forget set; {CURE_OF_BASE}"


def _is_the_model(plan: Plan) -> str:
    return f"--oracle {plan.oracle} holds the weights of --model {plan.model}, which knows the forget set; {_CURE}"


def _refuse_record(source: str, option: str, forget: Sequence[Example], cure: str) -> None:
    record = read_record(source)
    known = [example.id for example in forget if record is not None and record.has_learned(example)]
    if known:
        raise PlanError(
            f"{option} {source} learned {len(known)} of the {len(forget)} forget examples (first: {known[0]!r}), as "
            f"its {LEARNED_FILE} says; {cure}"
        )
