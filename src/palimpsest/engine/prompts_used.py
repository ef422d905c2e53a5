"""Which prompts of a version are chosen, for the record: from what its parts keep, so that no pass is taken."""

from __future__ import annotations

from palimpsest.engine.outcome import RunSetting
from palimpsest.engine.prepare import stamp_of
from palimpsest.models.load import Loaded
from palimpsest.models.parts import parts_of
from palimpsest.models.parts.prompting import PromptPart
from palimpsest.models.prompt_weights import entropy_of
from palimpsest.report.prompt_info import PromptRow


def prompts_used(run: RunSetting, saved: Loaded) -> tuple[PromptRow, ...]:
    """Part by part, those that are given to every row left out; empty for a version without prompts.

    Args:
        run: what was run.
        saved: the version.
    """
    asked = len(run.sets["learn"]) if "learn" in run.sets else 0
    found: list[PromptRow] = []
    for number, part in enumerate(parts_of(saved.model)):
        if isinstance(part, PromptPart) and part.asks:
            of_this_run = part.made_by == stamp_of(run.plan)
            row = PromptRow(
                part=number,
                kind=part.kind,
                of_this_run=of_this_run,
                rows=tuple(part.rows_M.tolist()),
                entropy=entropy_of(part.rows_M),
                asked=asked if of_this_run else 0,
            )
            found.append(row)
    return tuple(found)
