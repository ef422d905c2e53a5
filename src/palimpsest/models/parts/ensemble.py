"""An ensemble of low-rank adapters on one model: each member answers by itself, and the answers are averaged.

    p(word) = 1/M · Σ_m p_m(word)           mean = probabilities; p_m is the model with the adapters of member m alone
    logits  = 1/M · Σ_m logits_m            mean = logits
    of a member: y <- y + alpha · scale · B_m (A_m x)    at every adapted linear layer y = W x + b

Source: Bourtoule et al. 2021, "Machine Unlearning", arXiv:1912.03817, section IV-C, on aggregation; the adapters are
those of ``lora.py``.

What comes out of the model are logits whose softmax is the mean, one forward pass for each member. There are no keys
and values of an ensemble, so that it generates without a cache, and no one hidden state: an inner module that is called
by itself is the model's own.

Shape legend: M members, ... any leading axes, V vocabulary or classes, D width in, E width out, R rank.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MethodType
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.parts import ATTRIBUTE
from palimpsest.models.parts.lora import AdaptedLayer, Lora, LoraConfig, low_rank_change
from palimpsest.models.parts.part import Part
from palimpsest.models.places import module_at

Mean = Literal["probabilities", "logits"]


class EnsembleConfig(Config):
    """Options of an ensemble."""

    layers: tuple[AdaptedLayer, ...] = Field(min_length=1)
    """The layers that every member adapts."""
    members: tuple[int, ...] = Field(min_length=1)
    """Number of the shard that each member learned."""
    mean: Mean = "probabilities"
    """What is averaged."""


def added_log_probabilities(
    so_far: Float[Tensor, "... V"] | None, logits: Float[Tensor, "... V"]
) -> Float[Tensor, "... V"]:
    """Log of a sum of probabilities, with one more member's.

    >>> sure, unsure = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log()
    >>> (added_log_probabilities(added_log_probabilities(None, sure), unsure).exp() / 2).tolist()
    [0.699999988079071, 0.30000001192092896]
    """
    logp = logits.float().log_softmax(dim=-1)
    return logp if so_far is None else torch.logaddexp(so_far, logp)


def mean_logits(said: Sequence[Float[Tensor, "... V"]], mean: Mean) -> Float[Tensor, "... V"]:
    """Logits of the ensemble, in the dtype of its members; those of a member alone are its own.

    >>> mean_logits([torch.tensor([1.0, 3.0]), torch.tensor([3.0, 3.0])], "logits").tolist()
    [2.0, 3.0]
    """
    if len(said) == 1:
        return said[0]
    if mean == "logits":
        return torch.stack([one.float() for one in said]).mean(dim=0).to(said[0].dtype)
    total: Tensor | None = None
    for logits in said:
        total = added_log_probabilities(total, logits)
    return ((total if total is not None else said[0]) - math.log(len(said))).to(said[0].dtype)


class Ensemble(Part):
    """Several adapters, of which one acts at a time."""

    Config = EnsembleConfig
    kind = "ensemble"
    folds_when_saved = False

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__(config)
        sized = [layer for _ in config.members for layer in config.layers]
        self.down = nn.ParameterList(nn.Parameter(torch.zeros(one.rank, one.width_in)) for one in sized)
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(one.width_out, one.rank)) for one in sized)
        self.acts: int | None = None  # place in config.members; None outside of a pass

    @classmethod
    def example(cls, at: str, width: int) -> EnsembleConfig:
        """Two members of rank 2 at one layer."""
        layer = AdaptedLayer(at=at, width_in=width, width_out=width, rank=2, scale=2.0)
        return EnsembleConfig(layers=(layer,), members=(0, 1))

    @property
    def places(self) -> tuple[str, ...]:
        """The adapted layers."""
        return tuple(layer.at for layer in self.config.layers)

    def member(self, place: int) -> Lora:
        """A copy of one member's adapters as a part of their own, at the ensemble's alpha."""
        part = Lora(LoraConfig(layers=self.config.layers))
        self.put(place, part, back=True)
        part.alpha = self.alpha
        return part

    def put(self, place: int, part: Lora, *, back: bool = False) -> None:
        """Take the numbers of a member from a part, or give them back to it."""
        first = place * len(self.config.layers)
        for mine, its in ((self.down, part.down), (self.up, part.up)):
            for number, tensor in enumerate(its):
                held = mine[first + number]
                target, source = (tensor, held) if back else (held, tensor)
                target.data = source.detach().clone()

    def attach(self, model: nn.Module) -> None:
        """Act on the layers, and answer for the model.

        Raises:
            ModelError: a layer is not there, or another ensemble answers already.
        """
        if ensemble_of(model) is not None:
            raise ModelError("the model bears an ensemble already, and two cannot answer at once; give its base")
        for number, layer in enumerate(self.config.layers):
            module: Any = module_at(model, layer.at, "part 'ensemble'")
            shape = getattr(getattr(module, "weight", None), "shape", ())
            if sorted(shape) != sorted((layer.width_in, layer.width_out)):
                raise ModelError(
                    f"part 'ensemble' adapts {layer.at} as a linear layer from {layer.width_in} to {layer.width_out}, "
                    f"and there is a {type(module).__name__}; give the base that it was trained on"
                )
            for held in range(number, len(self.down), len(self.config.layers)):
                for parameter in (self.down[held], self.up[held]):
                    parameter.data = parameter.data.to(module.weight.device, module.weight.dtype)
            self.holds(module.register_forward_hook(partial(self._adapted, number)))
        self.holds(_Answering(model))

    def fold(self, model: nn.Module) -> bool:
        """One member alone folds as its adapters do; several cannot."""
        return len(self.config.members) == 1 and self.member(0).fold(model)

    def _adapted(self, number: int, _module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        """A forward hook of one layer."""
        if self.is_off or self.acts is None:
            return None
        held = self.acts * len(self.config.layers) + number
        change = low_rank_change(inputs[0], self.down[held], self.up[held], self.config.layers[number].scale)
        return output + (change if self.alpha == 1 else self.alpha * change)

    def answered(self, ask: Callable[[], Any]) -> Any:
        """What all members say: the first one's output, with the mean of the logits and nothing else.

        Args:
            ask: for the answer of the model, without keys and values.
        """
        said: list[Tensor] = []
        try:
            for place in range(len(self.config.members)):
                self.acts = place
                output = ask()
                said.append(_logits_of(output))
        finally:
            self.acts = None
        logits = mean_logits(said, self.config.mean)
        return (logits,) if isinstance(output, tuple) else type(output)(logits=logits)


def ensemble_of(model: Any) -> Ensemble | None:
    """The ensemble that answers for a model."""
    held = getattr(model, ATTRIBUTE, ())
    return next((part for part in held if isinstance(part, Ensemble)), None)


def _logits_of(output: Any) -> Tensor:
    logits = output[0] if isinstance(output, tuple) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"part 'ensemble': the model answers with a {type(output).__name__}; accepted: an output with logits"
        )
    return logits


class _Answering:
    """A model whose ``forward`` asks every member, until this is removed."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._config = getattr(model, "generation_config", None)
        self._cached = getattr(self._config, "use_cache", None)
        model.forward = MethodType(_asking_all(type(model)), model)  # bound: a deep copy asks the copy's members
        if self._config is not None:
            self._config.use_cache = False  # of ``generate``

    def remove(self) -> None:
        """The model answers for itself again."""
        self._model.__dict__.pop("forward", None)
        if self._config is not None:
            self._config.use_cache = self._cached


def _asking_all(kind: type) -> Callable[..., Any]:
    """The forward of a class of models as its ensemble gives it; with the arguments of the class's own."""
    plain: Callable[..., Any] = kind.forward  # type: ignore[attr-defined]

    def forward(self: Any, *args: Any, **given: Any) -> Any:
        """Ask every member and average."""
        part = ensemble_of(self)
        if part is None or part.is_off:
            return plain(self, *args, **given)
        labels = given.pop("labels", None)
        asked = _without_cache(given, plain)
        output = part.answered(lambda: plain(self, *args, **asked))
        return output if labels is None else _with_loss(self, output, labels)

    forward.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined] # `generate` looks at it
    return forward


def _without_cache(given: Mapping[str, Any], plain: Callable[..., Any]) -> dict[str, Any]:
    """Arguments that keep no keys and values.

    Raises:
        ModelError: positions are left out that a cache would hold.
    """
    held: Any = given.get("past_key_values")
    mask, ids = given.get("attention_mask"), given.get("input_ids")
    cut = isinstance(mask, Tensor) and isinstance(ids, Tensor) and mask.ndim == 2 and mask.shape[1] > ids.shape[1]
    if cut or (hasattr(held, "get_seq_length") and held.get_seq_length()):
        raise ModelError(
            "an ensemble keeps no keys and values of earlier tokens; give whole texts, with use_cache=False"
        )
    asked = {name: value for name, value in given.items() if name not in ("past_key_values", "use_cache")}
    return {**asked, "use_cache": False} if "use_cache" in inspect.signature(plain).parameters else asked


def _with_loss(model: Any, output: Any, labels: Tensor) -> Any:
    """The output with its loss, as transformers takes it of a causal LM.

    Raises:
        ModelError: it is no causal LM.
    """
    size = getattr(model.config, "vocab_size", None)
    if isinstance(output, tuple) or size is None or output.logits.ndim != 3:
        raise ModelError("an ensemble gives the loss of a causal LM alone; take the loss of its logits")
    output.loss = model.loss_function(logits=output.logits, labels=labels, vocab_size=size)
    return output


PART = Ensemble
