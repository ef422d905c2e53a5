"""Models in memory: saved to a folder of their own for one call, as whoever gave them would have saved them.

So a model in memory is no second way: what is read, trained, checked and digested is what a folder would give. The
caller's module is only read, unless a run is told to work in place. The folder is deleted when the call ends, whatever
came of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import PrivateAttr

from palimpsest.errors import ModelError, PalimpsestError, PlanError
from palimpsest.files import write_atomic
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.at_hand import CustomFacts, at_hand
from palimpsest.models.bound import expect, write_manifest
from palimpsest.report.inline import inline
from palimpsest.report.schema import RunResult
from palimpsest.verbs.stated import check_has_tokenizer, check_savable, facts_of

MODEL_ROLES = ("model", "after", "base", "oracle")
WRITTEN = ("plan.json", "result.json", "report.html")
"""Files that say where a model was."""
_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Model:
    """A model in memory, with what is saved beside it.

    Attributes:
        module: a ``PreTrainedModel`` of transformers, a PEFT model, or any ``nn.Module`` that ``facts`` describe.
        tokenizer: of a language model.
        processor: image processor of an image classifier of transformers.
        facts: what is known of a module whose class is the caller's own; None for the others.
    """

    module: Any
    tokenizer: Any = None
    processor: Any = None
    facts: CustomFacts | None = None

    @classmethod
    @as_it_was()
    def of(
        cls,
        module: Any,
        tokenizer: Any = None,
        *,
        processor: Any = None,
        num_outputs: int | None = None,
        image_size: int | Sequence[int] | None = None,
        image_mean: Sequence[float] = (0.0, 0.0, 0.0),
        image_std: Sequence[float] = (1.0, 1.0, 1.0),
        max_length: int | None = None,
    ) -> Model:
        """A model for any verb, in the place of its folder.

        Args:
            module: a ``PreTrainedModel`` of transformers, or a PEFT model; with ``num_outputs`` any ``nn.Module`` that
                takes images (B, C, H, W) or token ids (B, T) and returns logits, or an object that has them as
                ``logits``. A copy is asked a few examples; the module itself is only read.
            tokenizer: of a language model.
            processor: image processor of an image classifier of transformers.
            num_outputs: classes or tokens of a module of your own.
            image_size: of its images, height and width or one number for both; None = it is a causal LM.
            image_mean: subtracted from each channel of an image in [0, 1]; as many numbers as it has channels.
            image_std: what the difference is divided by.
            max_length: most tokens that it takes.

        Raises:
            ModelError: one of them cannot be saved, or the module is not what was said of it.
        """
        if num_outputs is None:
            check_savable(module, tokenizer, processor)
            return cls(module, tokenizer, processor)
        if processor is not None:
            raise ModelError("processor is for models of transformers; accepted beside num_outputs: image_size, ...")
        facts = facts_of(num_outputs, image_size, image_mean, image_std, max_length, tokenizer=tokenizer)
        return cls(module, tokenizer, facts=_found(module, facts))

    def save(self, folder: str | Path) -> None:
        """Write it as ``save_pretrained`` does, safetensors only; of a module of your own the weights and a note."""
        self.save_as(folder, "model")

    def save_as(self, folder: str | Path, role: str) -> None:
        """Write it as the model of a role ("model", "base", "oracle")."""
        from transformers.utils import logging

        with as_it_was():
            logging.disable_progress_bar()
            self._write(Path(folder), role)

    def _write(self, folder: Path, role: str) -> None:
        if self.facts is not None:
            from palimpsest.models.custom import config_of, write_custom

            write_custom(self.module, config_of(self.module, self.facts, role), folder)
        for part in (self.module if self.facts is None else None, self.tokenizer, self.processor):
            if part is not None:
                with _config_kept(part):
                    part.save_pretrained(str(folder))

    def after(self, loaded: Any) -> Model:
        """The model that a run left of this one, which is described by facts."""
        return Model(loaded.model.inner, loaded.tokenizer, facts=self.facts)

    def __str__(self) -> str:
        """What it is called in a record."""
        return f"a {type(self.module).__name__} in memory"


def _found(module: Any, facts: CustomFacts) -> CustomFacts:
    """The facts, found to be so."""
    from torch import nn

    from palimpsest.models.custom_probe import probed

    if not isinstance(module, nn.Module) or hasattr(module, "peft_config"):
        raise ModelError(f"module is a {type(module).__name__}; accepted beside num_outputs: an nn.Module")
    return probed(module, facts)


@contextmanager
def _config_kept(part: Any) -> Iterator[None]:
    """Saving writes into the config of a module what it finds; the caller's is as before afterwards."""
    config = getattr(part, "config", None)
    before = dict(vars(config)) if hasattr(config, "to_dict") else None
    try:
        yield
    finally:
        if before is not None:
            vars(config).clear()
            vars(config).update(before)


class Run(RunResult):
    """The result of a run without an output folder, with its model; nothing of it is on the disk.

    In a notebook it shows itself: the verdict, the scores and the gates. ``scores`` and ``verdict`` are as in
    ``result.json``; ``report`` is the page.
    """

    _model: Model | None = PrivateAttr(None)
    _files: Mapping[str, bytes] = PrivateAttr(default_factory=dict)

    @property
    def model(self) -> Model:
        """The model after the run."""
        if self._model is None:
            raise ModelError("this run was not made in memory; its model is in its output folder")
        return self._model

    def hold(self, model: Model) -> None:
        """Take a model as the one after the run."""
        self._model = model

    @property
    def report(self) -> str:
        """The report, one HTML page."""
        return self._now()["report.html"].decode("utf-8")

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return inline(self)

    def save(self, folder: str | Path) -> None:
        """Write what a run with ``output=folder`` would have left; of a module of your own a note says how to load it.

        Raises:
            PlanError: the folder exists.
        """
        target = Path(folder)
        if target.exists():
            raise PlanError(f"{target} exists; give a folder that does not")
        self.model.save(target)
        for name, content in self._now().items():
            (target / name).write_bytes(content)
        write_manifest(target)

    def _now(self) -> Mapping[str, bytes]:
        """What lies beside the model; of a run that was judged anew the record and the page say so."""
        record = f"{self.model_dump_json(indent=1)}\n".encode()
        if self._files.get("result.json", record) == record:
            return self._files
        from palimpsest.report.page import render

        return {**self._files, "result.json": record, "report.html": render(self).encode()}


def models_among(values: Mapping[str, Any]) -> dict[str, Model]:
    """Role -> model in memory, of the arguments of a verb."""
    return {role: values[role] for role in MODEL_ROLES if isinstance(values.get(role), Model)}


@contextmanager
def on_disk(values: dict[str, Any], *, tokenizer_needed: bool = True) -> Iterator[dict[str, str]]:
    """Save the models among some arguments for the time of the block, and put their folders in their place.

    Args:
        values: arguments of a verb; changed in place.
        tokenizer_needed: refuse a language model without one.

    Yields:
        Folder -> what its model is called; empty where all were folders already.

    Raises:
        ModelError: the tokenizer is missing.
    """
    models = models_among(values)
    if not models:
        yield {}
        return
    for model in models.values() if tokenizer_needed else ():
        check_has_tokenizer(model.module, model.tokenizer)
    with TemporaryDirectory(prefix="palimpsest-") as place:
        names = {}
        for role, model in models.items():
            folder = Path(place) / role
            model.save_as(folder, role)
            values[role], names[str(folder)] = str(folder), str(model)
        with at_hand({role: model.module for role, model in models.items() if model.facts}), _called(names):
            yield names


@contextmanager
def _called(names: Mapping[str, str]) -> Iterator[None]:
    """Errors of the block call the models what they are called."""
    try:
        yield
    except PalimpsestError as error:
        error.args = tuple(_said(part, names) if isinstance(part, str) else part for part in error.args)
        raise


def _said(text: str, names: Mapping[str, str]) -> str:
    for place, name in names.items():
        text = text.replace(place, name)
    return text


def renamed(folder: Path, names: Mapping[str, str]) -> None:
    """Call the models in the files of a run what they are called, not where they were for a while."""
    for name in WRITTEN if names else ():
        path = folder / name
        text = _said(path.read_text(encoding="utf-8"), names)
        expect(folder, name, text)
        write_atomic(path, text)


def made_beside(result: RunResult, place: str) -> dict[str, str]:
    """Folder -> what it is called, of an oracle that was made in a folder that will go; empty without either."""
    oracle = str(result.plan.get("oracle") or "")
    return {oracle: "an oracle made for this run"} if place and oracle.startswith(place) else {}


def run_of(folder: Path) -> Run:
    """A finished run in memory, so that its folder can go; the model that it is to hold is still missing."""
    run = Run.model_validate_json((folder / "result.json").read_text(encoding="utf-8"))
    own = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != _WEIGHTS}
    run._files = {name: (folder / name).read_bytes() for name in sorted(own)}
    return run


def model_in(folder: Path, given: Mapping[str, Model]) -> Model:
    """The model that a run left in a folder.

    Args:
        folder: of the run.
        given: role -> models in memory of the call.
    """
    from palimpsest.models.load import load
    from palimpsest.models.sources import read_config

    loaded = load(folder)
    source = given.get(str(read_config(folder).get("held_as")))
    if source is None or source.facts is None:
        return Model(loaded.model, loaded.tokenizer, loaded.preprocessor)
    return source.after(loaded)
