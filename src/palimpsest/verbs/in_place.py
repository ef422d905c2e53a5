"""A run that gives its weights to the caller's module: checked before anything is done, laid over it at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from palimpsest.engine.progress import Progress
from palimpsest.errors import PlanError
from palimpsest.verbs.in_memory import Model

if TYPE_CHECKING:
    from torch import Tensor


def check_held(held: Mapping[str, Model], plan: Mapping[str, Any], *, in_place: bool, progress: Progress) -> None:
    """Refuse models in memory that a run could not change, or whose result could not be handed over.

    Args:
        held: role -> model in memory.
        plan: sections as given.
        in_place: the module gets the weights.
        progress: told which frozen weights will move all the same.

    Raises:
        PlanError: they cannot.
    """
    model = held.get("model")
    if model is None:
        if in_place:
            raise PlanError("in_place is for a model in memory, and the model is a folder or a Hub name; leave it out")
        return
    scope = plan.get("scope") if isinstance(plan, Mapping) else None
    scope = scope if isinstance(scope, Mapping) else {}  # what else it may be is refused later
    if scope.get("kind") == "lora" and scope.get("merge") is False:
        raise PlanError(
            "scope.merge = false saves an adapter without its base, and the base is in memory alone; leave it out, or "
            "save the model and give its folder"
        )
    _check_frozen(model, scope, progress)
    if in_place:
        _check_receives(model)


def check_left_plain(method: str, plan: Mapping[str, Any], head: object = None) -> None:
    """Refuse to lay into a module what a run leaves beside it, or a head of another size.

    Args:
        method: of the run.
        plan: its sections, as given.
        head: what the head of the run does, as given; None = it stays.

    Raises:
        PlanError: the run would leave parts, or the head would have other rows; or an option is none.
    """
    from palimpsest import methods

    if head is not None or (isinstance(plan, Mapping) and plan.get("head") is not None):
        raise PlanError(
            "in_place: the head of the run gets other rows, which the module has no place for; leave in_place out and "
            "take run.model"
        )

    options = plan.get("options", {}) if isinstance(plan, Mapping) else {}
    if methods.card(method).adds_parts and methods.load(method).leaves_parts(methods.configure(method, options)):
        raise PlanError(
            f"in_place: a run of {method!r} with these options leaves parts beside the weights, which the module has "
            "no place for; leave in_place out and take run.model, or use options or a method that leave plain weights"
        )


def _check_frozen(model: Model, scope: Mapping[str, Any], progress: Progress) -> None:
    """A module that is frozen on purpose is not trained by surprise."""
    if not hasattr(model.module, "named_parameters"):
        return  # it can only be asked
    frozen = [name for name, p in model.module.named_parameters() if not p.requires_grad]
    if len(frozen) == sum(1 for _ in model.module.parameters()):
        raise PlanError(
            f"every parameter of the {type(model.module).__name__} is frozen (requires_grad is False); accepted: a "
            "module of which some may move; module.requires_grad_(True), and the scope says which do"
        )
    if frozen and not hasattr(model.module, "peft_config") and scope.get("kind", "all") == "all":
        progress(
            f"note: {len(frozen)} parameters of the module are frozen, e.g. {frozen[0]}, and move in this run: which "
            "may is said by the plan's scope alone",
            0,
            0,
        )


def _check_receives(model: Model) -> None:
    """Would the module be what was measured?"""
    name = type(model.module).__name__
    if hasattr(model.module, "peft_config"):
        raise PlanError(
            f"in_place: the {name} is an adapter on a base, and a run starts from the two merged; accepted: "
            "module.merge_and_unload(), or leave in_place out and take run.model"
        )
    import torch

    for tensor_name, tensor in model.module.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise PlanError(
                f"in_place: {tensor_name} is {str(tensor.dtype).removeprefix('torch.')}, and what a run makes and "
                "measures is float32; accepted: float32, or leave in_place out and take run.model"
            )


def laid_into(model: Model, changed: Model) -> Model:
    """The caller's model with the weights and buffers of the changed one; all of them, or none.

    Args:
        model: keeps its device, dtypes, modes and ``requires_grad``.
        changed: after the run.

    Raises:
        PlanError: they are not of one make; the module is as it was.
    """
    import torch

    own, new = model.module.state_dict(), changed.module.state_dict()
    other = _unlike(own, new)
    if other:
        raise PlanError(
            f"in_place: {other[0]} is not in both the {type(model.module).__name__} and what the run made of it; leave "
            "in_place out and take run.model"
        )
    before = {name: tensor.detach().clone() for name, tensor in own.items()}
    with torch.no_grad():
        try:
            for name, tensor in own.items():
                tensor.copy_(new[name])
        except BaseException:  # Ctrl-C between two tensors, too
            for name, tensor in own.items():
                tensor.copy_(before[name])
            raise
    return model


def _unlike(own: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> list[str]:
    """Names that one of them lacks or has in another shape."""
    names = {**own, **new}
    return [name for name in names if name not in own or name not in new or own[name].shape != new[name].shape]
