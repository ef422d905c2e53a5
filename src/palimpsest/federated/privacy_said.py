"""What is said of the privacy of a federation that learned with noise."""

from __future__ import annotations

import math

from palimpsest.federated.accounting import DELTA, client_epsilon
from palimpsest.federated.federated_plan import FederatedPlan
from palimpsest.in_words import so_many

_ALONE = (
    "This holds of the version's weights alone: the rounds beside them, and the losses and scores of the report, hold "
    "what clients answered, without noise"
)


def epsilon_of_plan(plan: FederatedPlan, rounds: int) -> float | None:
    """ε for ``DELTA`` of so many rounds; None where there is no noise, or where it cannot be told."""
    noise = plan.combining.noise_multiplier
    if not noise or not rounds or why_no_epsilon(plan):
        return None
    return client_epsilon(noise, rounds)


def why_no_epsilon(plan: FederatedPlan) -> str:
    """Why ε is not computed of a plan with noise, in words; "" = it can be."""
    if plan.gone:
        return "an erasure uses single answers as they came, without noise"
    if plan.rounds is None:
        return "the losses, which have no noise, decided how many rounds there were; give --rounds N"
    return ""


def privacy_note(plan: FederatedPlan, rounds: int) -> str:
    """One line for the report; "" where there is no noise."""
    noise = plan.combining.noise_multiplier
    if noise is None:
        return ""
    if noise == 0:
        return "Privacy of a client: none, its changes are clipped and no noise is added."
    why, epsilon = why_no_epsilon(plan), epsilon_of_plan(plan, rounds)
    if epsilon is None or not math.isfinite(epsilon):
        return f"Privacy of a client: epsilon is not computed: {why or 'no round was noisy'}."
    return (
        f"Privacy of a client: epsilon {epsilon:.3g} at delta {DELTA:g}, of {so_many(rounds, 'round')} with noise of "
        f"{noise:g} times the norm {plan.combining.clipping_norm:g}, all clients in each (Gaussian, exact; beside a "
        f"federation in which the client changed nothing). {_ALONE}."
    )
