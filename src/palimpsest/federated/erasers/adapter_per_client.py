"""An adapter for every client: each learns alone from the same start; who goes takes its own along.

Source: the decomposition family of federated unlearning, arXiv:2406.09831, and SISA, Bourtoule et al. 2021,
arXiv:1912.03817, with a shard for each client; known from notes on both.

    U_k = what client k learns from w₀, alone, in all its epochs
    p(word) = 1/K Σ_k p(word | w₀ + U_k)       LoRA: the adapters stay apart, and their answers are averaged
    w = w₀ + Σ_k p_k U_k                       whole weights: their mean by the examples
    w̃: the same over k ≠ u

Nobody's answer depends on who else is there, and the mean is taken anew over those who stay, never by a subtraction:
the result has the bits of a federation that the client never was in. What the clients never did is learn from each
other, and the mean of whole networks that learned apart is mostly none: keep to LoRA, or to a start that knows much.
An ensemble answers with a pass forward for each client.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from palimpsest.companions.round_record import Replies, Weights
from palimpsest.errors import PlanError
from palimpsest.federated.averaging import averaged_by, weights_after
from palimpsest.federated.erasers.history import kept_of
from palimpsest.federated.procedure import Eraser, Errand, Procedure, Rounds

APART_ROUNDS = 30
"""Rounds' worth of epochs that each client learns, where no number is given."""

_LORA, _LORA_UP = ".lora_", ".lora_B"  # in the names that PEFT gives to A and B


def united(start: Weights, answers: Replies) -> Weights:
    """Adapters side by side, "0/NAME", "1/NAME" in the order of the clients; of other weights, or of nobody, the mean.

    >>> import torch
    >>> from palimpsest.companions.round_record import Reply
    >>> learned = {"b": Reply("b", {"q.lora_A": torch.ones(1)}, 3, 0.0, 0.0)}
    >>> united({"q.lora_A": torch.ones(1)}, learned)
    {'0/q.lora_A': tensor([2.])}
    """
    if not answers or not all(_LORA in name for name in start):
        return averaged_by(start, answers)
    own = [weights_after(start, answers[client].delta) for client in sorted(answers)]
    return {f"{number}/{name}": tensor for number, one in enumerate(own) for name, tensor in one.items()}


def taken_apart(final: Weights) -> list[dict[str, Tensor]]:
    """The adapters of ``united``, one after the other; none of other weights.

    >>> taken_apart({"0/a": 1, "0/b": 2, "1/a": 3, "1/b": 4}), taken_apart({"a": 1})
    ([{'a': 1, 'b': 2}, {'a': 3, 'b': 4}], [])
    """
    members: dict[int, dict[str, Tensor]] = {}
    for name, tensor in final.items():
        number, slash, own = name.partition("/")
        if slash and number.isdigit():
            members.setdefault(int(number), {})[own] = tensor
    return [members[number] for number in sorted(members)]


def lay_ensemble(bench: Any, members: list[dict[str, Tensor]]) -> None:
    """Have the model of a bench answer as the ensemble of some adapters, beside its own, which then changes nothing."""
    from palimpsest.models.parts import attach, bearer_of
    from palimpsest.models.parts.ensemble import Ensemble, EnsembleConfig
    from palimpsest.models.parts.lora import as_part

    parts = []
    for one in members:
        bench.lay(one)
        parts.append(as_part(bench.model))
    bench.lay({name: tensor * (_LORA_UP not in name) for name, tensor in members[0].items()})
    made = Ensemble(EnsembleConfig(layers=parts[0].config.layers, members=tuple(range(len(parts)))))
    for place, part in enumerate(parts):
        made.put(place, part)
    made.made_by = {"method": ERASER.name}
    bearer = bearer_of(bench.model)
    attach(bearer, [made.eval().requires_grad_(False).to(next(bearer.parameters()).device)])


class AdapterPerClient(Eraser):
    """Each client's own adapter."""

    name = "adapter_per_client"
    source = "arXiv:2406.09831, decomposition; Bourtoule et al. 2021, arXiv:1912.03817"
    use_when = "erasure must be exact and immediate, and the clients need not learn from each other; LoRA"
    exact = True
    guarantee = "Exact: the bits of a federation that the client never was in"
    learns_apart = True

    def learn(self, start: Weights, names: tuple[str, ...], epochs: float, rounds: int | None) -> Procedure:
        """One round, in which every client learns for all rounds."""
        answers = yield Errand(start, names, epochs * (APART_ROUNDS if rounds is None else rounds), loss=False)
        return united(start, answers)

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Unite the others.

        Raises:
            PlanError: the clients learned from each other.
        """
        if len(history) != 1:
            raise PlanError(
                f"{self.name} cannot erase from a federation of {len(history)} rounds, in which clients learned from "
                f"each other; accepted: one that learned apart (run --for {self.name})"
            )
        kept = kept_of(history[0], gone)
        return united(history.start, (yield Errand(history.start, tuple(kept), known=kept)))

    def install(self, bench: Any, final: Weights) -> None:
        """The ensemble, or plain weights; an ensemble that is there gives way."""
        from palimpsest.models.parts import bearer_of, detach
        from palimpsest.models.parts.ensemble import ensemble_of

        there = ensemble_of(bearer_of(bench.model))
        if there is not None:
            detach(bearer_of(bench.model), [there])
        members = taken_apart(final)
        if members:
            lay_ensemble(bench, members)
        else:
            bench.lay(final)


ERASER = AdapterPerClient
