"""How the server combines answers: Flower's own strategies, behind the one word that a user gives.

They are given the clients' changes and not their weights. Means, medians and distances between clients are the same for
both; but Flower takes distances as ‖x‖² + ‖y‖² − 2·x·y, of which little is left where the weights are large and the
changes small. And they are given each change as one vector in fp64: a tensor without dimensions, such as a count of
batches, is one that Flower does not clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Krum,
    Strategy,
)
from torch import Tensor, zeros_like

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_record import Replies, Reply, Weights
from palimpsest.errors import PlanError, RunError, unknown
from palimpsest.federated.averaging import averaged_by, weights_after
from palimpsest.federated.flower.client_app import ERRAND
from palimpsest.federated.flower.messages import ARRAYS, EXAMPLES, METRICS, flattened, unflattened
from palimpsest.federated.going_through import COMBININGS
from palimpsest.federated.procedure import Combine

TRIMMED = 0.2
"""Share of the clients that a trimmed mean leaves out at either end; of each coordinate one at least."""


class Private(NamedTuple):
    """Client-level differential privacy (McMahan et al. 2018, arXiv:1710.06963): σ = z · C / n on the mean.

    Attributes:
        noise_multiplier: z; 0 adds no noise and gives no privacy.
        clipping_norm: C, the largest L2 norm of one client's change.
        key: of the owner: the noise is drawn from it, the round's weights and its answers, so that a run that died and
            is taken up again does not show two noises over one sum.
    """

    noise_multiplier: float
    clipping_norm: float
    key: MarkKey


def _median(num_clients: int) -> Strategy:
    return FedMedian()


def _trimmed_mean(num_clients: int) -> Strategy:
    return FedTrimmedAvg(beta=trimmed_share(num_clients))


def _krum(num_clients: int) -> Strategy:
    return Krum(num_malicious_nodes=most_liars(num_clients))


ROBUST: dict[str, Callable[[int], Strategy]] = {"median": _median, "trimmed_mean": _trimmed_mean, "krum": _krum}


def trimmed_share(num_clients: int) -> float:
    """Share to leave out at either end, so that it is one client at least where three answered.

    Flower rounds share · clients down: at its default of 0.2 it leaves nobody out of four.

    >>> [int(trimmed_share(n) * n) for n in (2, 3, 4, 10, 49)]
    [0, 1, 1, 2, 9]
    """
    return max(TRIMMED, (1 + 1e-9) / num_clients) if num_clients > 2 else 0.0


def most_liars(num_clients: int) -> int:
    """How many liars Krum can bear: f with n ≥ 2·f + 3 (Blanchard et al. 2017, proposition 4.2).

    >>> [most_liars(n) for n in (1, 3, 5, 10)]
    [0, 0, 1, 3]
    """
    return max(0, (num_clients - 3) // 2)


def combining(name: str, private: Private | None = None) -> Combine:
    """How answers are combined, by its name.

    Args:
        name: one of ``COMBININGS``.
        private: clip every client's change and add noise to their mean.

    Raises:
        PlanError: no such name; or privacy with another than the mean, for which its noise is not computed.
    """
    if name not in COMBININGS:
        raise PlanError(unknown("way to combine", name, COMBININGS))
    if private is not None:
        if name != "mean":
            raise PlanError(f"noise for privacy is computed for the mean of clients, not for {name!r}; leave one out")
        return lambda weights, answers: _by_private_mean(weights, answers, private)
    if name == "mean":
        return averaged_by
    return lambda weights, answers: _by_strategy(ROBUST[name], weights, answers)


def _by_strategy(make: Callable[[int], Strategy], weights: Weights, answers: Replies) -> dict[str, Tensor]:
    if not answers:
        return dict(weights)
    told = [answers[client] for client in sorted(answers)]
    return weights_after(weights, aggregated(make(len(told)), told))


def _by_private_mean(weights: Weights, answers: Replies, private: Private) -> dict[str, Tensor]:
    """The mean of clipped changes with noise; every client counts the same, for which the noise is computed."""
    if not answers:
        return dict(weights)
    told = [answers[client]._replace(examples=1) for client in sorted(answers)]
    noise, norm = private.noise_multiplier, private.clipping_norm
    strategy = DifferentialPrivacyServerSideFixedClipping(FedAvg(), noise, norm, len(told))
    strategy.current_arrays = _as_vector({name: zeros_like(tensor) for name, tensor in weights.items()})
    with _drawing_from(private.key, weights, told):
        try:
            return weights_after(weights, aggregated(strategy, told))
        except ZeroDivisionError:  # Flower divides by the norm
            raise RunError("a client changed nothing at all, and Flower cannot clip nothing; leave it out") from None


def aggregated(strategy: Strategy, told: list[Reply]) -> dict[str, Tensor]:
    """What one of Flower's strategies makes of changes.

    Args:
        strategy: any that aggregates arrays.
        told: at least one answer, in the order of the names.

    Raises:
        RunError: it gave nothing.
    """
    arrays, _ = strategy.aggregate_train(1, [_as_reply(one) for one in told])
    if arrays is None:
        raise RunError(f"Flower's {type(strategy).__name__} made nothing of {len(told)} answers")
    return unflattened(arrays[ARRAYS].numpy(), told[0].delta)


def _as_vector(tensors: Weights) -> ArrayRecord:
    return ArrayRecord({ARRAYS: Array(flattened(tensors))})


def _as_reply(told: Reply) -> Message:
    """An answer as Flower's strategies want it; made outside any run of Flower's, too."""
    content = RecordDict({ARRAYS: _as_vector(told.delta), METRICS: MetricRecord({EXAMPLES: told.examples})})
    where = {"run_id": 0, "message_id": "", "src_node_id": 1, "dst_node_id": 0, "reply_to_message_id": ""}
    return Message(
        content=content, metadata=Metadata(**where, group_id="", created_at=0.0, ttl=1.0, message_type=ERRAND)
    )


@contextmanager
def _drawing_from(key: MarkKey, weights: Weights, told: list[Reply]) -> Iterator[None]:
    """In the block, numpy's common generator, from which Flower draws, is that of a key and of what is combined."""
    digest = hashlib.sha256()
    for tensors in (weights, *(one.delta for one in told)):
        for name, tensor in tensors.items():
            digest.update(name.encode() + b"\0" + tensor.numpy().tobytes())
    seed = bytes.fromhex(key.seal(f"noise {digest.hexdigest()}"))
    before = np.random.get_state()
    np.random.seed(list(np.frombuffer(seed, dtype=np.uint32)))
    try:
        yield
    finally:
        np.random.set_state(before)
