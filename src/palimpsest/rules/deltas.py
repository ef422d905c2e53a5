"""Deltas: keep what every step changed in the weights, and whose step it was, so that it can be taken back later.

Source: layer-wise partial machine unlearning, Alg. 1, the learn side; amnesiac unlearning, Graves et al. 2021,
arXiv:2010.10981.

    w_{t+1} = w_t + u_t;   for each layer l store v_t^l = Prune_{p_l}(u_t^l), with the marks of the ids in the batch

The *applied* change is kept, whatever the optimizer, mask or slow weights made of the gradient; so is that of repair.
What moves the weights between two steps (slow weights that are settled) is kept, too, as a step of all before it.

Departs from the paper: every step is recorded, not those of some owners alone; Prune takes the largest entries, which
the paper does not say. Parameters alone: running statistics of batch normalisation are not rolled back, as in the
published code of amnesiac unlearning. With momentum a step also holds gradients of the steps before it, which are not
told apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from palimpsest.companions.delta_format import KeptTensor, packed
from palimpsest.companions.delta_recording import RECORDING, DeltaRecording
from palimpsest.companions.marks import MarkKey, key_file, own_key
from palimpsest.contract import ExampleSet, Phase
from palimpsest.errors import PlanError
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.rule import Rule, StepIds

KeptShare = Annotated[float, Field(gt=0, le=1)]


class DeltasConfig(Config):
    """Options of the delta log."""

    keep: KeptShare = 0.05
    """KeptShare of each tensor's entries that is kept, the largest ones; 1 keeps all, exactly."""
    layers: dict[str, KeptShare] = Field(default_factory=dict)
    """Regular expression searched in a parameter's name -> its share instead; the first that is found counts."""

    @field_validator("layers")
    @classmethod
    def _are_expressions(cls, layers: dict[str, float]) -> dict[str, float]:
        for pattern in layers:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
        return layers

    def share_of(self, name: str) -> float:
        """Of a parameter."""
        return next((share for pattern, share in self.layers.items() if re.search(pattern, name)), self.keep)


class Deltas(Rule):
    """The recorder. It watches: what it keeps is what the step came to in the end."""

    Config = DeltasConfig
    use_when = "what is learned now may have to be taken back later by amnesiac unlearning"
    place = "watches"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Fix which tensors are kept, and how much of each."""
        self._key = _own_key()
        places = [KeptTensor(name, tuple(p.shape), self.config.share_of(name)) for name, p in trainable(model).items()]
        self._places = tuple(places)
        self._recording = DeltaRecording(self.setting.folder / RECORDING / self.kind, self._places)
        self._last: dict[str, Tensor] = {}

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Keep the difference of the weights after a step and before it, under the marks of its ids."""
        self._catch_up(model)
        yield
        marks = {self._key.of_id(i) for group in ids.values() for i in group}
        self._keep(model, marks or self._recording.everyone)

    def settle(self, model: nn.Module) -> None:
        """Keep what settling changed, as a step of everybody's, and write down where the log stands."""
        self._catch_up(model)
        self._recording.close()

    def state(self) -> dict[str, Tensor]:
        """The numbers of the records that count; they are on the disk when this returns."""
        self._recording.flush()
        return {"live": torch.tensor(self._recording.live, dtype=torch.int64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Count the records of then; those of steps that were taken back no longer do."""
        self._recording.back_to(state["live"].tolist() if "live" in state else [])
        self._last = {}

    def _catch_up(self, model: nn.Module) -> None:
        """What moved the weights since the last step is a step of all who were there before it."""
        now = trainable(model)
        if not self._last:
            self._last = {place.name: now[place.name].detach().clone() for place in self._places}
        elif any(not torch.equal(now[name], then) for name, then in self._last.items()):
            self._keep(model, self._recording.everyone)

    def _keep(self, model: nn.Module, who: Collection[str]) -> None:
        now, changes = trainable(model), {}
        for name, then in self._last.items():
            changes[name] = now[name].detach().float() - then.float()
            then.copy_(now[name].detach())
        self._recording.add(packed(changes, self._places), who)


def _own_key() -> MarkKey:
    key = own_key()
    if key is None:
        raise PlanError(
            f"record: {key_file()} cannot be written, and without a key nothing is kept of whose step it was"
        )
    return key


RULE = Deltas
