"""Local work beside learning: climb the loss inside a ball, learn from a teacher, count statistics of classes.

All of it leaves the model in eval mode (statistics of batch normalisation stay), draws its batches by the seed of the
plan, the client and the round, and is a function of what it was sent.

Shape legend: B rows of a batch, S scored positions, V answers, D width of what enters the head.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from palimpsest.companions.class_counting import fold_of
from palimpsest.companions.round_record import Reply, Weights
from palimpsest.federated.arithmetic import onto_ball
from palimpsest.federated.erasers.closed_form import as_statistics, with_constant
from palimpsest.federated.procedure import Errand
from palimpsest.federated.work import seed_of
from palimpsest.federated.workbench import Workbench
from palimpsest.methods.scrub import softened_divergence
from palimpsest.models.class_features import seen_rows
from palimpsest.models.class_sums import ClassSums
from palimpsest.models.in_passes import in_passes
from palimpsest.models.scope import trainable

_FOLDS = 2
_CLIP = 1.0  # of a distillation: what was subtracted from may be far from anything


def ascend_locally(bench: Workbench, client: str, errand: Errand, number: int) -> Reply:
    """SGD up the loss of a client's rows, inside a ball around the weights that were sent.

    Args:
        bench: with the client's rows.
        client: its name.
        errand: settings learning_rate, momentum, clip (L2 norm of a gradient), radius; until: it ends at this loss.
        number: of the round.
    """
    started, loss = _begun(bench, client, errand)
    moving = list(trainable(bench.model).values())
    numbers = errand.settings
    optimizer = torch.optim.SGD(moving, lr=numbers["learning_rate"], momentum=numbers["momentum"])
    for batch in _drawn(bench, client, errand, number):
        optimizer.zero_grad()
        nll = -batch.predict(bench.model).logp_S.mean()
        if nll.item() >= numbers.get("until", math.inf):
            break
        torch.autograd.backward(-nll)
        nn.utils.clip_grad_norm_(moving, numbers["clip"])
        optimizer.step()
        bench.lay(onto_ball(bench.weights(), errand.weights, numbers["radius"]))
    return _reply(bench, client, errand, loss, started)


def distil_locally(bench: Workbench, client: str, errand: Errand, number: int) -> Reply:
    """AdamW, at the plan's rate, to the softened answers of the weights beside; labels are not looked at.

    Args:
        bench: with the rows.
        client: who has them.
        errand: the teacher beside, and the setting temperature.
        number: of the round.
    """
    started, loss = _begun(bench, client, errand)
    moving = list(trainable(bench.model).values())
    optimizer = torch.optim.AdamW(moving, lr=bench.plan.training.learning_rate, weight_decay=0.0)
    for batch in _drawn(bench, client, errand, number):
        student = bench.weights()
        bench.lay(errand.beside)
        with torch.no_grad():
            wanted_SV = batch.predict(bench.model).logits_SV.float()
        bench.lay(student)
        optimizer.zero_grad()
        logits_SV = batch.predict(bench.model).logits_SV.float()
        divergence = softened_divergence(wanted_SV, logits_SV, errand.settings["temperature"]) / len(logits_SV)
        torch.autograd.backward(divergence)
        nn.utils.clip_grad_norm_(moving, _CLIP)
        optimizer.step()
    return _reply(bench, client, errand, loss, started)


def count_locally(bench: Workbench, client: str, errand: Errand, number: int) -> Reply:
    """Counts, sums and second moments of what enters the head, and of a constant 1; one row in five is held out."""
    started, loss = _begun(bench, client, errand)
    examples = bench.sets[client]["learn"]
    seen = seen_rows(bench.model, examples, sorted(examples.ids))
    features = with_constant(seen.features_NM)
    fold_N = torch.tensor([fold_of(i, _FOLDS) for i in seen.ids])
    sums = ClassSums.empty(features.shape[1], 0, "pooled", _FOLDS).plus(features, seen.label_N, fold_N)
    return _reply(bench, client, errand, loss, started)._replace(delta=as_statistics(sums))


def _begun(bench: Workbench, client: str, errand: Errand) -> tuple[float, float]:
    """When it began, and the loss at what was sent, which is in the model from here on."""
    started = time.perf_counter()
    bench.lay(errand.weights)
    bench.model.eval()
    return started, bench.loss(client) if errand.loss else math.nan


def _drawn(bench: Workbench, client: str, errand: Errand, number: int) -> Iterator[Any]:
    """Batches of all passes."""
    rows, training = bench.sets[client]["learn"].plain(), bench.plan.training
    generator = torch.Generator().manual_seed(seed_of(training.seed, client, number))
    for _ in range(math.ceil(errand.epochs)):
        order = torch.randperm(len(rows.ids), generator=generator).tolist()
        yield from in_passes(bench.model, rows, training.batch_size, [rows.ids[place] for place in order])


def _reply(bench: Workbench, client: str, errand: Errand, loss: float, started: float) -> Reply:
    delta: Weights = bench.delta_from(errand.weights)
    return Reply(client, delta, len(bench.sets[client]["learn"]), loss, time.perf_counter() - started)
