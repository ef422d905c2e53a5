"""Which methods another trainer can train: one phase an iteration and the run's own step. Computed from the contract.

A trainer of someone else's takes the optimizer step itself, once for each batch. It can do for a method what is in
``CALLED``; a method that changes any other hook of the contract, also one that the contract gains later, needs
Palimpsest's loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from types import FunctionType
from typing import Any

from palimpsest import methods
from palimpsest.contract import Method, Phase
from palimpsest.errors import PlanError
from palimpsest.rules.rule import Rule

CALLED = frozenset(
    {
        "__init__",
        "asks_outputs_of",
        "asks_reference_on",
        "diagnostics",
        "draws_from",
        "load_state",
        "loss",
        "phases",
        "prepare",
        "recall",
        "recall_at",
        "rules",
        "state",
        "transform",
    }
)
"""Hooks that ``ObjectiveTrainer`` calls where the loop does."""
RULES_CALLED = frozenset({"__init__", "decides", "diagnostics", "load_state", "prepare", "reads", "state", "transform"})
"""Of a rule, likewise."""
SAMPLED = 40  # iterations of a run that are looked at for their phases


def served_methods() -> tuple[str, ...]:
    """Names of the methods that are one phase with their default options, sorted."""
    return tuple(name for name in methods.names() if _is_served(name))


def check_served(name: str, config: Any) -> None:
    """Refuse a method that is more than one phase, or changes what only the loop can do for it.

    Args:
        name: of the method.
        config: its options.

    Raises:
        PlanError: says why, and names the methods that work.
    """
    reason = why_not(methods.load(name), config)
    if reason is not None:
        raise PlanError(
            f"method {name!r} {reason}, which takes Palimpsest's own loop (pal.learn, pal.unlearn, pal.update); "
            f"a Trainer can train: {', '.join(served_methods())}"
        )


def why_not(kind: type[Method], config: Any) -> str | None:
    """Why a Trainer cannot train a method with these options, or None."""
    if kind.edits:
        return "changes the weights without steps"
    if kind.isolates:
        return "learns in a copy of the model that someone has to keep"
    if kind.sharded:
        return "learns each row in one of several adapters"
    own = [name for name in _hooks(Method) if name not in CALLED and not _is_default(kind, name)]
    if own:
        return f"has its own {' and '.join(own)}"
    return next(filter(None, map(_why_not_rule, kind(config).rules())), None) or _why_not_one(kind, config)


def _why_not_rule(rule: Rule) -> str | None:
    own = [n for n in _hooks(Rule) if n not in RULES_CALLED and not _is_default(type(rule), n, Rule)]
    return f"has the rule {rule.kind}, which works by its own {' and '.join(own)}" if own else None


def one_phase(phases: Sequence[Phase], anchor: str) -> Phase | None:
    """The phase of an iteration, where it is one plain optimizer step on a batch with the anchor in it; else None."""
    if len(phases) != 1 or anchor not in phases[0].sets:
        return None
    phase = phases[0]
    return phase if phase == replace(Phase("", ()), name=phase.name, sets=phase.sets, scale=phase.scale) else None


def _is_served(name: str) -> bool:
    try:
        return why_not(methods.load(name), methods.configure(name, {})) is None
    except PlanError:  # it has options without a default
        return False


def _why_not_one(kind: type[Method], config: Any) -> str | None:
    if _is_default(kind, "phases"):
        return None
    method = kind(config)
    method.sets = kind.draws_from((*kind.needs, *(name for group in kind.one_of for name in group), *kind.uses))
    try:
        sampled = [method.phases(step, SAMPLED) for step in range(SAMPLED)]
    except (AttributeError, LookupError, TypeError):
        return "has phases that only its preparation knows"
    most = max(len(phases) for phases in sampled)
    if most > 1:
        return f"takes {most} phases in one iteration"
    if any(one_phase(phases, method.sets[0]) is None for phases in sampled):
        return "has phases that are no plain step"
    return None


def _hooks(contract: type[Method | Rule]) -> list[str]:
    """What a method or a rule may define: every function of the contract's class that is not private."""
    kinds = (FunctionType, classmethod, staticmethod)
    return [n for n, v in vars(contract).items() if isinstance(v, kinds) and (n == "__init__" or not n.startswith("_"))]


def _is_default(kind: type[Method | Rule], name: str, contract: type[Method | Rule] = Method) -> bool:
    return inspect.getattr_static(kind, name) is vars(contract)[name]
