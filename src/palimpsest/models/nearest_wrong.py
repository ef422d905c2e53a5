"""The nearest wrong answer of a model: which one an example takes on when it is moved as little as possible.

    sign      x' = x + ε · s · sign(∇_x NLL),   s the root mean square of x;  ε the smallest of 2^-8, 2^-7, … 2
    steps     x' = x + δ,  δ ← P_ε( δ + (2.5 ε / n) ∇_x NLL / ‖∇_x NLL‖₂ ),   n steps within the ball ‖δ‖₂ ≤ ε;
              ε = ‖x‖₂ · (2^-9, 2^-8, …), per example the first at which the model errs
    y'        the most likely answer but the right one, at x'

Source: the fast gradient sign method, Goodfellow et al. 2015, arXiv:1412.6572; projected gradient ascent in the L2
ball, Madry et al. 2018, arXiv:1706.06083, with a radius that doubles until the model errs, as in AMUN,
arXiv:2503.00917.
Departs from them: radii are shares of the size of what enters, so that pixels of any normalisation and embeddings have
one rule; nothing is clipped to the range of a pixel, since the steps are small beside it.

Where no radius is enough, y' is the most likely wrong answer at the largest. Of a text each label token has its own y'.

Shape legend: B examples, S scored positions, V labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, ExampleSet, Predictions
from palimpsest.models.entries import predict_at, predict_with_entry
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import in_eval_mode

SIGN_RADII = tuple(2.0**k for k in range(-8, 2))
BALL_RADII = tuple(2.0**k for k in range(-9, 2))
ASCENT_STEPS = 10
ATTACKED_AT_ONCE = 32


class Moved(NamedTuple):
    """An example as the model errs on it.

    Attributes:
        change: δ, of the shape of what enters of this example, in half precision, on the CPU.
        labels_S: y' at each of its scored positions.
    """

    change: Tensor
    labels_S: Tensor


def likeliest_wrong(logits_SV: Float[Tensor, "S V"], target_S: Int[Tensor, "S"]) -> Int[Tensor, "S"]:
    """The most likely label but the right one.

    >>> likeliest_wrong(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]]), torch.tensor([0, 0])).tolist()
    [2, 1]
    """
    return logits_SV.detach().float().scatter(1, target_S[:, None], -torch.inf).argmax(1)


def unit_by_example(values: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
    """Each example divided by its L2 norm; zero stays zero."""
    norm_B = values.flatten(1).norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    return values / _over(norm_B, values)


def within_ball(values: Float[Tensor, "B ..."], radius_B: Float[Tensor, "B"]) -> Float[Tensor, "B ..."]:
    """Each example brought back to its radius where it is beyond it.

    >>> within_ball(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), torch.tensor([1.0, 1.0]))
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    norm_B = values.flatten(1).norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    return values * _over((radius_B / norm_B).clamp(max=1.0), values)


def nearest_labels(model: nn.Module, examples: ExampleSet) -> dict[str, Int[Tensor, "S"]]:
    """Y' of every example by the sign of one gradient, by id."""
    found: dict[str, Tensor] = {}
    for batch in _batches(model, examples):
        found |= dict(zip(batch.ids, _by_example(batch, signed_labels(model, batch)), strict=True))
    return found


def signed_labels(model: nn.Module, batch: Batch) -> Int[Tensor, "S"]:
    """Y' at each scored position of a batch: at the first radius at which the right label is not the likeliest."""
    with in_eval_mode(model):
        said, entry = predict_with_entry(model, batch)
        sign, size = _gradient(said, entry).sign(), entry.detach().square().mean().sqrt()
        labels_S, open_S = batch.target_S.clone(), torch.ones_like(batch.target_S, dtype=torch.bool)
        with torch.no_grad():
            for radius in SIGN_RADII:
                moved = predict_at(model, batch, radius * size * sign)
                labels_S = torch.where(open_S, likeliest_wrong(moved.logits_SV, batch.target_S), labels_S)
                open_S = open_S & _right(moved)
                if not open_S.any():
                    break
    return labels_S


def nearest_moved(model: nn.Module, examples: ExampleSet) -> dict[str, Moved]:
    """δ and y' of every example by steps within growing balls, by id."""
    found: dict[str, Moved] = {}
    for batch in _batches(model, examples):
        change, labels_S = stepped(model, batch)
        parts = _by_example(batch, labels_S)
        for row, (example_id, labels) in enumerate(zip(batch.ids, parts, strict=True)):
            found[example_id] = Moved(change[row].half().cpu(), labels)
    return found


def stepped(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, "B ..."], Int[Tensor, "S"]]:
    """δ of each example of a batch, and y' at its scored positions.

    An example is there once the model errs at half of its positions or more.
    """
    with in_eval_mode(model):
        said, entry = predict_with_entry(model, batch)
        size_B = entry.detach().flatten(1).norm(dim=1)
        change, open_B = torch.zeros_like(entry), ~_errs(said)
        for radius in BALL_RADII:
            if not open_B.any():
                break
            tried = _ascended(model, batch, radius * size_B)
            change = torch.where(_over(open_B, change), tried, change)
            with torch.no_grad():
                open_B = open_B & ~_errs(predict_at(model, batch, change))
        with torch.no_grad():
            labels_S = likeliest_wrong(predict_at(model, batch, change).logits_SV, batch.target_S)
    return change, labels_S


def _ascended(model: nn.Module, batch: Batch, radius_B: Tensor) -> Tensor:
    """δ after all steps within a ball; each example stays where the model first errs."""
    change: Tensor | None = None
    for _ in range(ASCENT_STEPS):
        said, entry = predict_with_entry(model, batch, change)
        step = _over(2.5 * radius_B / ASCENT_STEPS, entry) * unit_by_example(_gradient(said, entry))
        before = torch.zeros_like(entry) if change is None else change
        after = within_ball(before + step, radius_B)
        change = torch.where(_over(_errs(said), after), before, after)
    return torch.zeros(()) if change is None else change


def _gradient(said: Predictions, entry: Tensor) -> Tensor:
    """∇_x Σ NLL; examples do not meet, so each row is its own."""
    (gradient,) = torch.autograd.grad(-said.logp_S.sum(), [entry])
    return gradient.detach()


def _right(said: Predictions) -> Bool[Tensor, "S"]:
    return said.logits_SV.argmax(1) == said.target_S


def _errs(said: Predictions) -> Bool[Tensor, "B"]:
    """Is the model wrong at half of an example's positions or more?"""
    return said.sum_by_example(_right(said).float()) <= said.count_B / 2


def _over(values_B: Tensor, like: Tensor) -> Tensor:
    return values_B.view(-1, *(1,) * (like.dim() - 1))


def _batches(model: nn.Module, examples: ExampleSet) -> Iterator[Batch]:
    return (batch.bare for batch in in_passes(model, examples.plain(), ATTACKED_AT_ONCE))


def _by_example(batch: Batch, values_S: Tensor) -> list[Tensor]:
    """Values at the scored positions, example by example, on the CPU; positions of a batch are in the order of rows."""
    counts = torch.bincount(batch.owner_S.cpu(), minlength=len(batch)).tolist()
    return list(torch.split(values_S.cpu(), counts))


def wrong_labels_of(labels: Mapping[str, Tensor], batch: Batch) -> Int[Tensor, "S"]:
    """Labels by id, at all scored positions of a batch."""
    return torch.cat([labels[example_id] for example_id in batch.ids]).to(batch.bare.target_S.device)
