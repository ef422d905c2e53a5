"""transformers' Trainer with a method of Palimpsest as its loss.

What is the loop's stays the loop's: which ids a step draws, how sums become the loss, the reference, the neighbours.
What is the Trainer's stays the Trainer's: optimizer, schedule, clipping, checkpoints, callbacks, trackers. Where both
say the same the weights are the same (tests/integrations). Two things they say differently: the Trainer's weight decay
leaves biases and norms out, and its first step of a warm-up has rate 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from palimpsest import methods
from palimpsest.contract import ExampleSet
from palimpsest.engine.plan import Plan, checked_sections
from palimpsest.engine.prepare import made_sets, method_with_reference
from palimpsest.engine.progress import silent
from palimpsest.engine.whose import empty_of_ours
from palimpsest.errors import DivergedError, PlanError
from palimpsest.integrations.given_sets import check_sizes, loaded_in_trainer, plan_in_trainer, sets_in_trainer
from palimpsest.integrations.objective import Objective
from palimpsest.integrations.refusals import check_model, check_trainer, check_training_arguments
from palimpsest.integrations.resumption import check_same_run, last_checkpoint, load_beside, save_beside
from palimpsest.integrations.served import check_served
from palimpsest.models.modes import asked
from palimpsest.models.scope import state_digests
from palimpsest.records import digest
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack

_PART = "micro_batch"  # what the data loader hands out: numbers; the batches are built when their step begins
REFERENCE = "palimpsest-reference"


class ObjectiveTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """Train a model by a method of Palimpsest, with the optimizer, the callbacks and the trackers of transformers.

    Example::

        args = TrainingArguments("out", learning_rate=1e-5, max_steps=100, per_device_train_batch_size=8)
        sets = {"forget": "forget.jsonl", "retain": "retain.jsonl"}
        ObjectiveTrainer(model, args, method="npo", sets=sets, processing_class=tokenizer).train()
    """

    loss_is_scaled_for_ga = True  # every part of a loss is divided by the counts of the whole step

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        method: str,
        sets: Mapping[str, Any],
        plan: Mapping[str, Any] | None = None,
        **trainer: Any,
    ) -> None:
        """Check all that was given; nothing is trained yet.

        Args:
            model: where the run starts; changed in place. For ``retrain`` the model that has learned nothing. What has
                ``requires_grad`` moves. A PEFT model is its own reference, the adapter switched off, unless the adapter
                already says something.
            args: optimizer, length, seed. A step takes ``per_device_train_batch_size * gradient_accumulation_steps``
                examples of the method's first set, whose passes are the epochs.
            method: file name in ``palimpsest.methods``; one whose iteration is one phase.
            sets: role -> an encoded set, or what the verbs take: a path, a list of dicts or ``Example``, a
                ``datasets.Dataset``, a pandas frame; encoded by ``processing_class``.
            plan: as in the verbs: ``options`` of the method, ``encoding``, ``pairing``, ``training.side_batch_size``.
            trainer: further arguments of ``Trainer``: ``processing_class``, ``callbacks``, ``optimizers``,
                ``eval_dataset`` and ``compute_metrics`` with their usual meaning.

        Raises:
            UsageError: says in one line what cannot be used.
        """
        check_trainer(trainer)
        check_model(model)
        check_training_arguments(args)
        sections = checked_sections({} if plan is None else plan, "plan")
        check_served(method, methods.configure(method, sections.get("options", {})))
        self._plan = plan_in_trainer(model, args, method, plan)
        self._sets = sets_in_trainer(self._plan, model, trainer.get("processing_class"), sets)
        check_sizes(self._plan, args, self._sets)
        self._objective: Objective | None = None
        self._run: dict[str, Any] = {}
        self._is_done = False
        super().__init__(model=model, args=args, **trainer)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Train, or go on from a checkpoint with the model from before the run.

        Raises:
            PlanError: this trainer has trained already, or the checkpoint is of another run.
            DivergedError: a loss or gradient is not finite; the weights are those of the step before.
        """
        folder = last_checkpoint(resume_from_checkpoint, self.args.output_dir)
        if self._is_done or (self._objective is not None and folder is None):
            raise PlanError("this trainer has trained; give a new ObjectiveTrainer the model that a run starts from")
        self._run = self._run or _run_of(self._plan, self.model, self._sets)
        if folder is not None:
            check_same_run(Path(folder), self._run)
        if self._objective is None:
            self._objective = self._prepared()
        if folder is not None:
            load_beside(Path(folder), self._objective)
        output = super().train(folder, trial, ignore_keys_for_eval)
        self._is_done = True
        empty_of_ours(self._reference_folder)
        return output

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Numbers of the micro-batches of one epoch; drawn from no random state that the model could share."""
        count = math.ceil(self._num_anchors / self.args.per_device_train_batch_size)
        numbers = range(count)
        return DataLoader(numbers, batch_size=1, collate_fn=_numbered, generator=torch.Generator())  # type: ignore[arg-type]

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Examples of an epoch."""
        is_own = isinstance(getattr(dataloader, "dataset", None), range)
        return self._num_anchors if is_own else int(super().num_examples(dataloader))

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The part of a micro-batch in the loss of its step; of anything else, as in an evaluation, what Trainer says.

        Raises:
            DivergedError: it is not finite.
            PlanError: an epoch was cut short, so that the Trainer's steps are no longer those of the sets.
        """
        if _PART not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        objective, part = self._at_work, inputs[_PART]
        number = part % self.args.gradient_accumulation_steps
        if number == 0:
            objective.begin(self.state.global_step, self.state.max_steps, new_epoch=part == 0)
            if len(objective.parts) != self.current_gradient_accumulation_steps:
                raise PlanError(
                    f"step {self.state.global_step}: {self.current_gradient_accumulation_steps} micro-batches for a "
                    f"step of {len(objective.parts)}; a run whose epochs were cut short cannot be resumed"
                )
        loss = objective.loss(model, number, self.accelerator)
        _refuse_infinite("loss", loss.detach(), self.state.global_step)
        return loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Gradients of a micro-batch; after the last one of a step, what the method does to them."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._at_work.transform(self.model)
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As Trainer estimates them, over the batches of all sets."""
        return sum(int(super(ObjectiveTrainer, self).floating_point_ops(each)) for each in self._inputs_of(inputs))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """What Trainer logs; beside its loss the mean of each term, and what the method says of itself."""
        if "loss" in logs and self._objective is not None:
            logs |= self._objective.numbers(logs["learning_rate"])
        super().log(logs, start_time)

    @property
    def _num_anchors(self) -> int:
        kind = methods.load(self._plan.method)
        return len(self._sets[kind.draws_from(self._sets)[0]])

    @property
    def _at_work(self) -> Objective:
        if self._objective is None:
            raise PlanError("nothing is prepared; call train()")
        return self._objective

    @property
    def _reference_folder(self) -> Path:
        return Path(self.args.output_dir) / REFERENCE

    def _prepared(self) -> Objective:
        """The method with its reference and its neighbours, as the engine prepares it."""
        empty_of_ours(self._reference_folder)  # of a run that was killed, perhaps of other weights
        plan, kind = self._plan, methods.load(self._plan.method)
        set_seed(self.args.seed)
        self.model.eval()
        loaded = loaded_in_trainer(self.model, self.processing_class)
        made = made_sets(plan, loaded, self._sets, self._reference_folder, silent)
        pairs = {name: made[name].partner for name in kind.paired}
        sets = {**self._sets, **{name: one.examples for name, one in made.items()}}
        drawn = {name: sets[name] for name in kind.draws_from(sets)}
        speaks = hasattr(self.model, "disable_adapter") and _adapter_speaks(self.model, next(iter(drawn.values())))
        method = method_with_reference(plan, self.model, sets, self._reference_folder, as_it_is=speaks)
        if method.prepare(self.model, drawn) is not self.model:
            raise PlanError(f"method {plan.method!r} wraps the model, which a Trainer cannot follow; use pal.unlearn")
        rules = RuleStack(method.rules(), setting=Setting(self._reference_folder, self.args.seed))
        rules.prepare(self.model, drawn, sets)
        return Objective(method, drawn, pairs, plan.training, rules)

    def _inputs_of(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """What goes into the model for what Trainer calls the inputs."""
        if _PART not in inputs:
            return [inputs]
        part = self._at_work.parts[inputs[_PART] % self.args.gradient_accumulation_steps]
        return [batch.inputs() for batch in part.values()]

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        for each in self._inputs_of(inputs):
            super()._track_num_input_tokens(each)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        _refuse_infinite("gradient norm", norm, self.state.global_step)
        return norm

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        save_beside(folder, self._run, self._at_work)
        super()._save_checkpoint(model, trial)


def _numbered(rows: list[int]) -> dict[str, int]:
    return {_PART: rows[0]}


def _refuse_infinite(what: str, value: Any, step: int) -> None:
    if not math.isfinite(float(value)):
        raise DivergedError(f"step {step}: {what} {float(value)}; lower the learning rate")


def _adapter_speaks(model: Any, examples: ExampleSet) -> bool:
    """Does an adapter change what the model says? Then the model before the run is the one with it."""
    batch = examples.batch(examples.ids[:8]).to(next(model.parameters()).device)
    with asked(model):
        said = batch.predict(model).logits_SV
        with model.disable_adapter():
            return not torch.equal(said, batch.predict(model).logits_SV)


def _run_of(plan: Plan, model: nn.Module, sets: Mapping[str, ExampleSet]) -> dict[str, Any]:
    """What tells a run from others, for its checkpoints; weights and ids as digests."""
    return {
        "method": plan.method,
        "options": plan.options,
        "training": plan.training.model_dump(mode="json"),
        "pairing": plan.pairing.model_dump(mode="json"),
        "derived": plan.derived,
        "sets": {name: digest(list(examples.ids)) for name, examples in sets.items()},
        "model": digest(state_digests(model)),
    }
