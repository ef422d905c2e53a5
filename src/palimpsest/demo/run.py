"""The demo, one model's life in minutes: learn two groups of invented patients, forget three, compare to retraining."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.data.examples import read_examples
from palimpsest.demo.records import DemoFiles, write
from palimpsest.demo.tiny_model import new_model
from palimpsest.errors import PlanError
from palimpsest.records import Text
from palimpsest.report.schema import RunResult
from palimpsest.verbs import learn, unlearn
from palimpsest.verbs.progress import Progress

SMOOTH = {"lr_scheduler_type": "linear", "betas": [0.9, 0.98], "warmup_steps": 20, "num_train_epochs": 10_000}
LITTLE = {"metrics": ["es"], "limit": 30}

BASE = {"learning_rate": 3e-3, "batch_size": 32, "max_steps": 200, **SMOOTH}
GROUP_A = {"learning_rate": 2e-3, "batch_size": 16, "side_batch_size": 8, "max_steps": 220, **SMOOTH}
GROUP_B = {"learning_rate": 2e-3, "batch_size": 16, "side_batch_size": 16, "max_steps": 160, **SMOOTH}
ORACLE = {"learning_rate": 2e-3, "batch_size": 16, "side_batch_size": 8, "max_steps": 300, **SMOOTH}
FORGET = {"learning_rate": 3e-4, "batch_size": 8, "side_batch_size": 16, "max_steps": 40, "max_grad_norm": 1.0}
REPAIRED_ICU = {"repair_steps": 4}


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
    if output.exists() and not (output / "data").is_dir():
        raise PlanError(f"output {output} exists and was not made by the demo; give another --output")
    files = write(output / "data", seed=seed)
    stages = _Stages(output, seed, progress)
    if not (output / "untrained").is_dir():
        texts = [e.content.text for e in read_examples(files.general) if isinstance(e.content, Text)]
        new_model(output / "untrained", texts, seed)
    stages.learn("1-base", "untrained", files.general, BASE)
    stages.learn("2-group-a", "1-base", files.group_a, GROUP_A, replay=files.general)
    stages.learn("3-group-b", "2-group-a", files.group_b, GROUP_B, replay=files.replay_b)
    stages.unlearn("4-oracle", files, "retrain", ORACLE, base=output / "1-base", replay=files.general)
    result = stages.unlearn(
        "5-unlearned",
        files,
        "icu",
        FORGET,
        options=REPAIRED_ICU,
        oracle=output / "4-oracle",
        holdout=files.holdout,
        replay=files.general,
        general=files.general_holdout,
        measuring={},
    )
    return result, output / "5-unlearned"


class _Stages:
    """The stages of one demo, with what they share."""

    def __init__(self, output: Path, seed: int, progress: Progress) -> None:
        self._output = output
        self._seed = seed
        self._progress = progress

    def learn(
        self, name: str, model: str, data: Path, training: Mapping[str, Any], *, replay: Path | None = None
    ) -> None:
        learn(
            self._output / model,
            data,
            output=self._output / name,
            replay=replay,
            plan={"training": {**training, "seed": self._seed}, "measuring": LITTLE},
            progress=self._named(name),
        )

    def unlearn(
        self,
        name: str,
        files: DemoFiles,
        method: str,
        training: Mapping[str, Any],
        *,
        options: Mapping[str, Any] | None = None,
        measuring: Mapping[str, Any] = LITTLE,
        base: Path | None = None,
        oracle: Path | None = None,
        holdout: Path | None = None,
        replay: Path | None = None,
        general: Path | None = None,
    ) -> RunResult:
        return unlearn(
            self._output / "3-group-b",
            files.forget,
            output=self._output / name,
            method=method,
            retain=files.retain,
            base=base,
            oracle=oracle,
            holdout=holdout,
            replay=replay,
            general=general,
            plan={
                "training": {**training, "seed": self._seed},
                "options": dict(options or {}),
                **({"refine": {"share": 0.6}} if holdout is not None else {}),
                "measuring": dict(measuring),
            },
            progress=self._named(name),
        )

    def _named(self, name: str) -> Progress:
        return lambda stage, done, total, note="": self._progress(f"{name}: {stage}", done, total, note)
