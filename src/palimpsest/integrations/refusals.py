"""What ``ObjectiveTrainer`` cannot take of transformers' Trainer and TrainingArguments, each said in one line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers import Trainer, TrainingArguments

from palimpsest.errors import MissingExtra, ModelError, PlanError, unknown
from palimpsest.models.scope import trainable

NOT_TAKEN = {
    "train_dataset": "the examples to train on are given as sets; leave it out",
    "compute_loss_func": "the loss is the method's; leave it out",
    "model_init": "a run starts from one model, that from before the run; give it as model",
}
"""Argument of Trainer -> why not."""
_MEANT = {"tokenizer": "processing_class", "dataset": "sets", "options": "plan"}
"""What an argument is called elsewhere -> here; only for the hint of an error."""
FIXED: Mapping[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0, "the loss is the method's"),
    "fp16": (False, "a skipped step would draw other examples than the loop does; give bf16"),
    "auto_find_batch_size": (False, "the batch size is part of what is drawn"),
    "ignore_data_skip": (False, "a resumed run would draw other examples"),
    "dataloader_drop_last": (False, "the loop leaves no example out"),
    "train_sampling_strategy": ("random", "the order of the examples is the loop's"),
}
"""Option of TrainingArguments -> the one value that is accepted, and why."""


def check_trainer(given: Mapping[str, Any]) -> None:
    """Refuse arguments that Trainer does not have, and those that a method takes the place of.

    Raises:
        PlanError: the first of them.
    """
    if not hasattr(Trainer, "loss_is_scaled_for_ga"):
        raise PlanError(
            f"the Trainer of transformers {transformers.__version__} divides every loss by the accumulation steps; "
            "install a newer transformers, whose Trainer has loss_is_scaled_for_ga"
        )
    accepted = set(inspect.signature(Trainer.__init__).parameters) - {"self", "model", "args", *NOT_TAKEN}
    for name, value in given.items():
        if name in NOT_TAKEN and value is not None:
            raise PlanError(f"{name} was given: {NOT_TAKEN[name]}")
        if name not in NOT_TAKEN and name not in accepted:
            raise PlanError(unknown("argument", name, {"method", "sets", "plan", *accepted}, _MEANT.get(name)))


def check_model(model: Any) -> None:
    """Refuse what is no module, and weights that are too coarse to be trained: a small update of them rounds away.

    Raises:
        ModelError: what it is instead.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model is a {type(model).__name__}; accepted: a model in memory, such as "
            "AutoModelForCausalLM.from_pretrained(FOLDER)"
        )
    moving = trainable(model)
    if not moving:
        raise ModelError("no parameter of the model has requires_grad; leave at least one free to move")
    for name, parameter in moving.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ModelError(
                f"parameter {name} is {str(parameter.dtype).removeprefix('torch.')}, where a small update rounds away; "
                "load the model with dtype=torch.float32, and give args.bf16=True for speed"
            )


def check_training_arguments(args: Any) -> None:
    """Refuse options under which a step would not be the loop's.

    Raises:
        PlanError: the first of them.
        MissingExtra: reports go to a tracker that is not installed.
    """
    if not isinstance(args, TrainingArguments):
        raise PlanError(f"args is a {type(args).__name__}; accepted: transformers.TrainingArguments")
    for name, (accepted, reason) in FIXED.items():
        value = getattr(args, name, accepted)
        if value != accepted:
            raise PlanError(f"args.{name} = {value!r}: {reason}; accepted: {accepted!r}")
    if "num_steps" in (args.accelerator_config.gradient_accumulation_kwargs or {}):
        raise PlanError("args.accelerator_config has num_steps; give gradient_accumulation_steps instead")
    for number, what in ((args.world_size, "processes"), (args.n_gpu, "GPUs in one process")):
        if number > 1:
            raise PlanError(
                f"{number} {what}: this version trains in one process on one device; run it without a launcher, "
                "with CUDA_VISIBLE_DEVICES naming one"
            )
    _check_trackers(args.report_to)


def _check_trackers(names: list[str]) -> None:
    if "tensorboard" in names:
        from transformers.integrations import is_tensorboard_available

        if not is_tensorboard_available():
            raise MissingExtra("tensorboard", "trackers", "args.report_to = tensorboard")
