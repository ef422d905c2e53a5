"""Scope: which parameters may move. Orthogonal to the method."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from palimpsest.chosen import Chosen
from palimpsest.errors import FrozenError, ModelError, PlanError
from palimpsest.models.families import of_model
from palimpsest.models.parts import ATTRIBUTE, attach, detach, new_parts_of, parts_of

if TYPE_CHECKING:  # a plan is checked before torch is imported
    from torch import Tensor, nn


WHY_STUCK = "no gradient reached them, or the learning rate is too small to change their numbers in fp32"


class Scope(Chosen):
    """Which parameters may move."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["all", "lora", "layers", "parts"] = "all"
    """"all" parameters; "lora" adapters on the linear layers (PEFT), of an image classifier on its convolutions too;
    "layers" named by regular expressions; "parts" that the method adds to the model, and nothing else."""
    names: tuple[str, ...] = ()
    """For "layers": regular expressions searched in parameter names. For "lora": names of the modules to adapt, all
    linear ones when empty."""
    rank: int = Field(default=16, ge=1)
    """LoRA rank r."""
    lora_alpha: float = Field(default=32.0, gt=0)
    """LoRA scale: the update is lora_alpha / rank times B·A."""
    merge: bool = True
    """After a LoRA run: fold the adapter into the weights (one plain model). False saves the adapter alone."""

    @model_validator(mode="after")
    def _names_fit_kind(self) -> Scope:
        if self.kind == "layers" and not self.names:
            raise ValueError("scope 'layers' needs names: regular expressions of parameters, e.g. 'layers\\.4\\.'")
        if self.kind in ("all", "parts") and self.names:
            raise ValueError(f"scope {self.kind!r} takes no names; use kind 'layers' or 'lora'")
        return self


def apply_scope(model: Any, scope: Scope) -> Any:
    """Freeze what may not move; wrap the model for LoRA.

    Returns:
        The model itself, or a PEFT model around it.

    Raises:
        ModelError: a name matches nothing.
        PlanError: a name is not a regular expression.
    """
    if scope.kind == "lora":
        model = _with_lora(model, scope)
    elif scope.kind == "layers":
        _freeze_all_but(model, scope.names)
    else:
        model.requires_grad_(scope.kind == "all")
    _freeze_earlier_parts(model, scope.names if scope.kind == "layers" else ())
    _move_new_parts(model)
    if scope.kind == "parts" and not new_parts_of(model):
        raise ModelError(
            "scope parts: the method adds no part to the model; accepted: scope.kind = all, lora or layers"
        )
    return model


def _freeze_earlier_parts(model: Any, names: Sequence[str]) -> None:
    """Parts of earlier requests stay as they are, unless a name says that they are meant."""
    if any(ATTRIBUTE in name for name in names):
        return
    for part in parts_of(model):
        part.requires_grad_(False)


def _move_new_parts(model: Any) -> None:
    """What the method added moves, whatever else does."""
    for part in new_parts_of(model):
        part.requires_grad_(True)


def _with_lora(model: Any, scope: Scope) -> Any:
    from peft import LoraConfig, get_peft_model

    from palimpsest.models.adapters import quiet_about_ties

    family = of_model(model)
    parts = detach(model)  # adapters go on the model's own layers, and hooks on the layers as they then are
    config = LoraConfig(
        r=scope.rank,
        lora_alpha=scope.lora_alpha,
        target_modules=list(scope.names) or (_adaptable(model) if family.adapts_head else "all-linear"),
        exclude_modules=None if scope.names else _refused_by_peft(model) or None,
        lora_dropout=0.0,
        task_type=family.adapter_task if hasattr(model, "prepare_inputs_for_generation") else None,
    )
    try:
        # the commit of a base from the Hub: without it the adapter would be laid on whatever is newest there
        with quiet_about_ties():
            wrapped = get_peft_model(model, config, revision=getattr(model.config, "_commit_hash", None))
    except ValueError as error:
        able = sorted(_linear_names(model) - set(_refused_by_peft(model)))
        raise ModelError(f"scope lora: {_why_not_adapted(str(error))}--set scope.names=[{','.join(able)}]") from error
    return attach(_on_a_whole_path(wrapped), parts)


def _why_not_adapted(reason: str) -> str:
    """PEFT's reason in our words, up to the names that can be given."""
    if "No `target_modules`" in reason:
        return "no linear layer lies under the head of the model; accepted: scope.kind=all, scope.kind=layers, or "
    return f"{reason.splitlines()[0]}; here they are called scope.names, e.g. "


def _linear_names(model: nn.Module) -> set[str]:
    """Last names of the linear layers under the head."""
    from torch import nn

    named = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return named - {"lm_head", "base_layer", "default"}


def linear_places(model: Any) -> list[str]:
    """Names of the layers that adapters go on where none are named: all linear ones under the head, those of GPT-2 too.

    Parts that the model bears are not among them, nor layers that PEFT cannot adapt.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    refused, head = set(_refused_by_peft(model)), model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and not name.startswith(ATTRIBUTE)
        and name.rpartition(".")[2] not in refused
    ]


def _refused_by_peft(model: nn.Module) -> list[str]:
    """Linear layers that PEFT cannot adapt: fused kernels read their weight and pass them by, or they route experts."""
    from peft import LoraConfig
    from peft.tuners import tuners_utils

    check: Any = getattr(tuners_utils, "_check_lora_target_modules_mamba", lambda *_: None)
    refused = _answering_otherwise(model)
    for name in _linear_names(model):
        try:
            check(LoraConfig(), model, name)
        except ValueError:
            refused.add(name)
    return sorted(refused)


def _answering_otherwise(model: nn.Module) -> set[str]:
    """Last names of layers that are linear by class and answer something else than a tensor, as PhiMoE's routers do."""
    import torch
    from torch import nn

    from palimpsest.models.modes import in_eval_mode

    found = set()
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or type(module).forward is nn.Linear.forward:
            continue
        with torch.no_grad(), in_eval_mode(module):
            said = module(module.weight.new_zeros(2, module.in_features))
        if not isinstance(said, torch.Tensor):
            found.add(name.rpartition(".")[2])
    return found


def _on_a_whole_path(model: Any) -> Any:
    """An adapter saved alone names its base; that name must hold wherever the next command runs."""
    for config in model.peft_config.values():
        base = Path(config.base_model_name_or_path or "")
        if base.name and base.is_dir():
            config.base_model_name_or_path = str(base.resolve())
    return model


def _adaptable(model: nn.Module) -> list[str]:
    """Convolutions and linear layers of an image classifier, its head included: a class is forgotten there first."""
    from torch import nn

    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def _freeze_all_but(model: nn.Module, patterns: tuple[str, ...]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        try:
            matched = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise PlanError(f"scope name {pattern!r} is not a regular expression: {error}") from None
        if not matched:
            raise ModelError(f"scope name {pattern!r} matches no parameter; the first ones are {', '.join(names[:5])}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(re.search(pattern, name) for pattern in patterns))


def leave_scope(model: Any, scope: Scope) -> Any:
    """Undo the wrapping of ``apply_scope`` after a run; merges a LoRA adapter when the scope says so.

    One that is not merged stays a PEFT model, which is saved as an adapter alone; beside other parts it becomes a part.
    """
    if scope.kind == "lora" and scope.merge:
        from palimpsest.models.adapters import merged_whole

        parts = detach(model)  # merging puts other modules in the place of those that bear their hooks
        return attach(merged_whole(model), parts)
    if scope.kind == "lora" and parts_of(model):
        from palimpsest.models.parts.lora import kept_beside

        return kept_beside(model)
    return model


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that may move, by name, tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes; 0.0 and -0.0 differ."""
    import torch

    flat = tensor.detach().contiguous().cpu().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def parameter_digests(model: nn.Module) -> dict[str, str]:
    """Digest of every parameter, by name. A digest instead of a copy: the check costs no memory."""
    return {name: tensor_digest(p) for name, p in model.named_parameters()}


def state_digests(model: nn.Module) -> dict[str, str]:
    """Digest of all that is saved of a model, parameters and buffers, by name."""
    return {name: tensor_digest(tensor) for name, tensor in model.state_dict().items()}


def check_changed(model: nn.Module, before: Mapping[str, str]) -> None:
    """Something that is saved differs from before, and nothing frozen does: what is asked of work without steps.

    Args:
        model: after a run, whatever was wrapped around it meanwhile.
        before: ``state_digests`` once the scope was applied, before the method touched the model.

    Raises:
        FrozenError: nothing differs, or something frozen does.
    """
    after = state_digests(model)
    renamed = after.keys() != before.keys()
    if Counter(after.values()) == Counter(before.values()) if renamed else after == before:
        raise FrozenError(
            "the run changed nothing: every weight is as it was before; give the method more to do (its options, its "
            "examples) or a scope that holds what it edits"
        )
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    _refuse_leaks([name for name in frozen if name in before and after[name] != before[name]])


def _refuse_leaks(names: Sequence[str]) -> None:
    if names:
        raise FrozenError(f"{len(names)} frozen tensors moved, e.g. {names[0]}")


def check_moved(model: nn.Module, before: Mapping[str, str]) -> list[str]:
    """A trainable tensor differs from before, and every frozen one is the same.

    Some trainable ones may be as they were, for good reason: an expert that no example was sent to, LoRA's A while its
    B is zero, numbers so large that a small step rounds away.

    Args:
        model: after a run of at least one step.
        before: ``parameter_digests`` from the start of the run.

    Returns:
        The trainable tensors that are as they were.

    Raises:
        FrozenError: none of them moved, or a frozen one did.
    """
    moved = {name: digest != before[name] for name, digest in parameter_digests(model).items()}
    moving = trainable(model)
    stuck = [name for name in moving if not moved[name]]
    if stuck and len(stuck) == len(moving):
        raise FrozenError(f"none of the {len(stuck)} trainable tensors moved, e.g. {stuck[0]}: {WHY_STUCK}")
    _refuse_leaks([name for name in moved if moved[name] and name not in moving])
    return stuck
