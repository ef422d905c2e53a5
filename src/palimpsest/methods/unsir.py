"""UNSIR: noise that is told least of all as a class is learned as that class (impair), then what stays again (repair).

Source: Tarun, Chundawat, Mandal, Kankanhalli 2023, "Fast Yet Effective Machine Unlearning", arXiv:2111.08947.

    n*     = argmax_n  NLL(y | n) − noise_weight · mean (n / s)²       by Adam from n ~ N(0, s²), under the model before
    impair  L = − mean log p(y | n*) − mean log p(retain tokens)       y the class that is to go
    repair  L = − mean log p(retain tokens)

The noise is what the model least takes for its class; to fit it as that class the weights move away from what they had
learned of the class. s is the root mean square of what enters. At a fixed rate one pass of each, as in the paper; a
controlled run takes impairing steps until the forget set is at its level, and repairs as every such run.

Departs from the paper: it is for whole classes, of which it sees no image. Here single images may go too: the noise is
of their classes, and what stays of these is for retain to bring back. The forget set gives classes and numbers, never
an image. The penalty is per number that enters and of its size, so that one factor fits any input; the paper's sum over
all pixels lets the noise shrink to nothing. At most ``noises`` of a class are made; its retain set is a subset, ours
all.
Official code: github.com/vikram2000b/Fast-Machine-Unlearning, not run by us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Stage, Term, Terms
from palimpsest.data.draws import shuffled
from palimpsest.data.encode.any_set import labels_of
from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.models.entries import entry_of, predict_instead
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import in_eval_mode
from palimpsest.terms import likelihood

_IMPAIR = "impair"
_REPAIR = "repair"
_MADE_AT_ONCE = 32


class UNSIRConfig(Config):
    """Options of UNSIR."""

    noises: int = Field(default=64, ge=1)
    """Noise inputs of each class; 256 in the paper's code."""
    noise_steps: int = Field(default=25, ge=1)
    """Steps of Adam that make them."""
    noise_rate: float = Field(default=0.1, gt=0)
    """Of these steps, in units of s."""
    noise_weight: float = Field(default=0.1, ge=0)
    """Factor of the noise's mean square."""
    impair_epochs: float = Field(default=1.0, gt=0)
    """At a fixed rate: passes over the forget set's number of noises; 1 in the paper."""
    repair_epochs: float = Field(default=1.0, gt=0)
    """At a fixed rate: passes over retain after it; 1 in the paper."""


def error_maximising(
    model: nn.Module, batch: Batch, config: UNSIRConfig, generator: torch.Generator
) -> Float[Tensor, "B ..."]:
    """n*: noise in the place of what enters of a batch, told as little as its labels as steps can make it.

    Args:
        model: asked in eval mode; left as it is.
        batch: for its shapes and its labels.
        config: steps, rate, penalty.
        generator: of the start, on the CPU.
    """
    with in_eval_mode(model), torch.enable_grad():
        like = entry_of(model, batch)
        size = like.square().mean().sqrt()
        start = torch.randn(like.shape, generator=generator).to(like)
        noise = (size * start).requires_grad_()
        optimizer = torch.optim.Adam([noise], lr=config.noise_rate * float(size))
        for _ in range(config.noise_steps):
            said = predict_instead(model, batch, noise)
            penalty = (noise / size).square().flatten(1).mean(1).sum()
            loss = said.logp_S.sum() + config.noise_weight * penalty
            (noise.grad,) = torch.autograd.grad(loss, [noise])
            optimizer.step()
    return noise.detach()


class UNSIR(Method):
    """Learn noise as the class that must go, beside what stays."""

    Config = UNSIRConfig
    use_when = (
        "a class must go and its images are not to be looked at. Not for single images: all of their classes suffer."
    )
    approach = "relabelling"
    needs = ("forget", "retain")
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Make the noise, at the weights that the run starts from."""
        self._forget = sets["forget"].plain()
        self._like = noise_places(self._forget, self.config.noises)
        self._noise = self._made(model, list(dict.fromkeys(self._like.values())))
        return super().prepare(model, sets)

    def _made(self, model: nn.Module, ids: Sequence[str]) -> dict[str, Tensor]:
        """Noise by the example whose place it takes, in half precision, on the CPU."""
        generator = torch.Generator().manual_seed(0)
        made: dict[str, Tensor] = {}
        for batch in (whole.bare for whole in in_passes(model, self._forget, _MADE_AT_ONCE, ids)):
            made |= zip(batch.ids, error_maximising(model, batch, self.config, generator).half().cpu(), strict=True)
        return made

    def stages(self, sizes: Mapping[str, int]) -> tuple[Stage, ...]:
        """Impair, then repair."""
        impair, repair = Phase(_IMPAIR, ("forget", "retain")), Phase(_REPAIR, ("retain",))
        return (
            Stage(_IMPAIR, anchor="forget", epochs=self.config.impair_epochs, phases=(impair,)),
            Stage(_REPAIR, anchor="retain", epochs=self.config.repair_epochs, phases=(repair,)),
        )

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the phase's sets."""
        terms = likelihood(model, batches, {"retain": 1.0})
        if "forget" in batches:
            said = batches["forget"].seen(self._told(model, batches["forget"]))
            terms["noise"] = Term(-said.logp_S.sum(), of="forget")
        return terms

    def _told(self, model: nn.Module, batch: Batch) -> Predictions:
        """What the model says of the noise in the place of a batch."""
        ids = [self._like[example_id] for example_id in batch.ids]
        own = self._forget.batch(ids).bare.to(batch.bare.target_S.device)
        return predict_instead(model, own, padded([self._noise[example_id] for example_id in ids]))


def noise_places(examples: ExampleSet, most: int) -> dict[str, str]:
    """Id -> the example of its class whose noise stands for it; each itself where there are no classes.

    Args:
        examples: of classes, or of texts.
        most: of each class.
    """
    labels = labels_of(examples).tolist()
    if not labels:
        return {example_id: example_id for example_id in examples.ids}
    label_of = dict(zip(examples.ids, labels, strict=True))
    by_class: dict[int, list[str]] = {}
    for example_id in shuffled(examples.ids, 0, "noise", 0):
        by_class.setdefault(label_of[example_id], []).append(example_id)
    return {i: ids[place % most] for ids in by_class.values() for place, i in enumerate(ids)}


def padded(noises: Sequence[Tensor]) -> Float[Tensor, "B ..."]:
    """Stacked, shorter ones filled with zeros at the end of their first dimension."""
    return nn.utils.rnn.pad_sequence(list(noises), batch_first=True)


METHOD = UNSIR
