"""How far the evidence of a page reaches: said on every page, next to the numbers."""

from __future__ import annotations

from palimpsest.report.beside import WHOLE_BASE, is_beside_its_base
from palimpsest.report.meaning import UNLEARNING
from palimpsest.report.nouns import things
from palimpsest.report.schema import RunResult
from palimpsest.report.view import focus, row_keys

SMALL_N = 30


def limits(result: RunResult) -> tuple[str, ...]:
    """Sentences on what a page does not prove, the particular ones first."""
    return (*_particular(result), *_general(result))


def _particular(result: RunResult) -> list[str]:
    name = focus(result)
    sentences = _of_adapter(result)
    if result.kind in UNLEARNING and "oracle" not in result.scores:
        sentences.append(
            "No retrained model (oracle) was measured: nothing here says how the model would behave had it never seen "
            "the forget set."
        )
    if name is not None and name in result.sets and result.sets[name].n < SMALL_N:
        sentences.append(
            f"The {name} set has {things(result, result.sets[name].n)}. The intervals come from resampling these; "
            "where all of them score the same, an interval has no width although n is small."
        )
    if result.kind in UNLEARNING and "holdout" not in {owner for owner, _ in row_keys(result)}:
        sentences.append(
            "No holdout set was measured: membership in the training data was not compared with its absence."
        )
    return sentences


def _of_adapter(result: RunResult) -> list[str]:
    scope = result.plan.get("scope")
    if not isinstance(scope, dict) or not is_beside_its_base(result.kind, result.method, scope):
        return []
    return [f"{WHOLE_BASE}. Hand on the merged model (scope.merge = true) where that must not be."]


def _general(result: RunResult) -> list[str]:
    metrics = ", ".join(dict.fromkeys(metric for _, metric in row_keys(result))) or "none"
    sentences = [
        f"Only the metrics listed ({metrics}) were measured, on the sets and the n shown; "
        "other prompts may show other behaviour.",
        "Attacks that bring knowledge back, such as relearning on related text, quantising the weights or rephrasing "
        "the questions, were not run unless they stand in the tables above.",
        "Each interval covers its own quantity at 95 %; with several gates the chance that one misses is larger.",
        "The page is not evidence of compliance with any law.",
    ]
    if result.kind in UNLEARNING:
        sentences.insert(
            0,
            "Approximate unlearning of a neural network carries no certificate: that the forget set cannot be "
            "extracted by the means listed does not mean that no trace of it is left in the weights.",
        )
    return sentences
