"""The demo, one model's life in minutes: learn two groups of invented patients, forget three, compare to retraining."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from palimpsest.data.read.examples import read_examples
from palimpsest.demo.patients import DemoFiles, write
from palimpsest.engine.progress import Progress
from palimpsest.errors import PlanError, reachable
from palimpsest.records import Text
from palimpsest.report.schema import RunResult
from palimpsest.verbs import learn, unlearn
from palimpsest.verbs.arguments import ForgettingArguments

FIRST = "general.jsonl"  # of the files that the demo writes, the first
LITTLE = {"metrics": ["es"], "limit": 30}


def run_demo(output: Path, *, seed: int, progress: Progress) -> tuple[RunResult, Path]:
    """Run the whole story into a folder; a finished stage is not run again.

    Args:
        output: folder for data, models and reports.
        seed: of patients and training.
        progress: told every stage.

    Returns:
        The result of the unlearning, and its folder.

    Raises:
        PlanError: the folder exists and was not made by the demo.
    """
    reachable(output, "output", PlanError)
    _check_ours(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlanError(f"output {output}: {error.strerror or error}; give a folder that can be made") from None
    from palimpsest.demo.tiny_model import new_model_whole  # and torch with it

    files = write(output / "data", seed=seed)
    stages = _Stages(output, seed, progress)
    if not (output / "untrained").is_dir():
        texts = [e.content.text for e in read_examples(files.general) if isinstance(e.content, Text)]
        new_model_whole(output / "untrained", texts, seed)
    stages.learn("1-base", "untrained", files.general)
    stages.learn("2-group-a", "1-base", files.group_a, replay=files.general)
    stages.learn("3-group-b", "2-group-a", files.group_b, replay=files.replay_b)
    stages.unlearn("4-oracle", files, "retrain", base=output / "1-base", replay=files.general)
    result = stages.unlearn(
        "5-unlearned",
        files,
        oracle=output / "4-oracle",
        holdout=files.holdout,
        replay=files.general,
        general=files.general_holdout,
        measuring={},
    )
    return result, output / "5-unlearned"


def _check_ours(output: Path) -> None:
    """Refuse a folder in which there is something, and no rows of the demo; whose the rows are, ``write`` looks."""
    if not output.exists():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / "data" / FIRST).is_file()):
        raise PlanError(f"output {output} exists and was not made by the demo; give another --output")


class _Stages:
    """The stages of one demo, with what they share."""

    def __init__(self, output: Path, seed: int, progress: Progress) -> None:
        self._output = output
        self._seed = seed
        self._progress = progress

    def learn(self, name: str, model: str, data: Path, *, replay: Path | None = None) -> None:
        learn(
            self._output / model,
            data,
            output=self._output / name,
            replay=replay,
            plan={"training": {"seed": self._seed}, "measuring": LITTLE},
            progress=self._named(name),
        )

    def unlearn(
        self,
        name: str,
        files: DemoFiles,
        method: str | None = None,
        *,
        measuring: Mapping[str, Any] = LITTLE,
        **arguments: Unpack[ForgettingArguments],
    ) -> RunResult:
        arguments |= {"retain": files.retain, "progress": self._named(name)}
        return unlearn(
            self._output / "3-group-b",
            files.forget,
            output=self._output / name,
            method=method,
            plan={"training": {"seed": self._seed}, "measuring": dict(measuring)},
            **arguments,
        )

    def _named(self, name: str) -> Progress:
        return lambda stage, done, total, note="": self._progress(f"{name}: {stage}", done, total, note)
