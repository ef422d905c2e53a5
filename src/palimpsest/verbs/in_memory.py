"""Models in memory: saved to a folder of their own for one call, as whoever gave them would have saved them.

So a model in memory is no second way: what is read, trained, checked and digested is what a folder would give. The
caller's module is only read. The folder is deleted when the call ends, whatever came of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import PrivateAttr

from palimpsest.errors import ModelError, PlanError
from palimpsest.files import write_atomic
from palimpsest.report.schema import RunResult

ROLES = ("model", "base", "oracle")
WRITTEN = ("plan.json", "result.json", "report.html")
"""Files that say where a model was."""
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Model:
    """A model in memory, with what is saved beside it.

    Attributes:
        module: a ``PreTrainedModel`` of transformers, or a PEFT model.
        tokenizer: of a language model.
        processor: image processor of an image classifier.
    """

    module: Any
    tokenizer: Any = None
    processor: Any = None

    @classmethod
    def of(cls, module: Any, tokenizer: Any = None, *, processor: Any = None) -> Model:
        """A model for any verb, in the place of its folder.

        Args:
            module: a ``PreTrainedModel`` of transformers, or a PEFT model; it is only read.
            tokenizer: of a language model.
            processor: image processor of an image classifier.

        Raises:
            ModelError: one of them cannot be saved.
        """
        for name, part in (("module", module), ("tokenizer", tokenizer), ("processor", processor)):
            if (part is not None or name == "module") and not hasattr(part, "save_pretrained"):
                raise ModelError(
                    f"{name} is a {type(part).__name__}; accepted: what has save_pretrained, as models and tokenizers "
                    "of transformers and PEFT models have"
                )
        return cls(module, tokenizer, processor)

    def save(self, folder: str | Path) -> None:
        """Write it as ``save_pretrained`` does, safetensors only."""
        from transformers.utils import logging

        logging.disable_progress_bar()
        for part in (self.module, self.tokenizer, self.processor):
            if part is not None:
                part.save_pretrained(str(folder))

    def __str__(self) -> str:
        """What it is called in a record."""
        return f"a {type(self.module).__name__} in memory"


class Run(RunResult):
    """The result of a run without an output folder, with its model; nothing of it is on the disk."""

    _model: Model | None = PrivateAttr(None)
    _files: Mapping[str, bytes] = PrivateAttr(default_factory=dict)

    @property
    def model(self) -> Model:
        """The model after the run."""
        if self._model is None:
            raise ModelError("this run was not made in memory; its model is in its output folder")
        return self._model

    def save(self, folder: str | Path) -> None:
        """Write what a run with ``output=folder`` would have left.

        Raises:
            PlanError: the folder exists.
        """
        target = Path(folder)
        if target.exists():
            raise PlanError(f"{target} exists; give a folder that does not")
        self.model.save(target)
        for name, content in self._files.items():
            (target / name).write_bytes(content)


@contextmanager
def on_disk(values: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Save the models among some arguments for the time of the block, and put their folders in their place.

    Args:
        values: arguments of a verb; changed in place.

    Yields:
        Folder -> what its model is called; empty where all were folders already.
    """
    models = {role: values[role] for role in ROLES if isinstance(values.get(role), Model)}
    if not models:
        yield {}
        return
    with TemporaryDirectory(prefix="palimpsest-") as place:
        names = {}
        for role, model in models.items():
            folder = Path(place) / role
            model.save(folder)
            values[role], names[str(folder)] = str(folder), str(model)
        yield names


def renamed(folder: Path, names: Mapping[str, str]) -> None:
    """Call the models in the files of a run what they are called, not where they were for a while."""
    for name in WRITTEN if names else ():
        path = folder / name
        text = path.read_text(encoding="utf-8")
        for place, said in names.items():
            text = text.replace(place, said)
        write_atomic(path, text)


def run_of(folder: Path) -> Run:
    """A finished run in memory, so that its folder can go."""
    from palimpsest.models.load import load

    loaded = load(folder)
    run = Run.model_validate_json((folder / "result.json").read_text(encoding="utf-8"))
    run._model = Model(loaded.model, loaded.tokenizer, loaded.preprocessor)
    own = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != WEIGHTS}
    run._files = {name: (folder / name).read_bytes() for name in sorted(own)}
    return run
