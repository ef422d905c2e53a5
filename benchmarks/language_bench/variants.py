"""Names of rows: a method and what is added to it, ``npo+smooth+diversify``, or done to its version, ``npo+harden``.

``nothing@sisa`` and ``oracle@sisa+one_shard`` are the rows to compare with, of models that were taught by another
method than fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest.errors import PlanError, unknown

HARDENED, SHARE = "harden", 0.6  # the share that ``palimpsest harden --help`` begins with
FORMS = 4
OWN_RECIPE = ("sisa",)  # learners with a schedule of their own, which options decide
ADDED: Mapping[str, Mapping[str, Any]] = {
    "disruption": {"rules": [{"kind": "disruption"}]},
    "smooth": {"rules": [{"kind": "smooth"}]},
    "smooth_random": {"rules": [{"kind": "smooth", "by": "rs"}]},
    "averaged": {"rules": [{"kind": "smooth", "by": "wa"}]},
    "sign": {"rules": [{"kind": "sign"}]},
    "masked": {"rules": [{"kind": "masked"}]},
    "partial": {"rules": [{"kind": "partial"}]},
    "diversify": {"diversify": FORMS},
    "one_shard": {"options": {"shards": 1}},
}
"""Name -> sections of a plan: every rule with its own defaults."""

LEARNED_BY: Mapping[str, str] = {"sisa": "sisa", "code_unlearn": "code_learn"}  # forgets only what was learned that way


def method_of(name: str) -> str:
    """The method of a row's name.

    >>> method_of("npo+smooth")
    'npo'
    """
    return name.partition("@")[0].partition("+")[0]


def learner_of(name: str) -> str:
    """By what the model before was taught: a method, with what is added to it.

    >>> learner_of("npo+smooth"), learner_of("sisa+one_shard"), learner_of("nothing@sisa")
    ('finetune', 'sisa+one_shard', 'sisa')
    """
    beside, _, told = name.partition("@")
    if told:
        return told
    by = LEARNED_BY.get(method_of(beside), "finetune")
    return name.replace(method_of(name), by, 1) if by in OWN_RECIPE else by


def before_hardening(name: str) -> str:
    """The row whose version is hardened; the same name where none is.

    >>> before_hardening("npo+smooth+harden"), before_hardening("npo")
    ('npo+smooth', 'npo')
    """
    return name.removesuffix(f"+{HARDENED}")


def sections_of(name: str) -> dict[str, Any]:
    """What a row's name adds to the plan of its run.

    Raises:
        PlanError: there is no such addition.

    >>> sections_of("npo+sign+partial")
    {'rules': [{'kind': 'sign'}, {'kind': 'partial'}]}
    """
    found: dict[str, Any] = {}
    for part in before_hardening(name).split("+")[1:]:
        if part not in ADDED:
            raise PlanError(unknown("addition to a method", part, (*ADDED, HARDENED)))
        for section, value in ADDED[part].items():
            found[section] = _together(found.get(section), value)
    return found


def _together(before: Any, value: Any) -> Any:
    if before is None:
        return value
    return [*before, *value] if isinstance(value, list) else {**before, **value}
