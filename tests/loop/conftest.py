"""A small model, two small sets, and a way to run the loop on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palimpsest import methods
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.reference import build_reference


def random_set(prefix: str, count: int, seed: int) -> TextSet:
    """Ragged random sequences over the vocabulary of ``tiny_llama``."""
    generator = torch.Generator().manual_seed(seed)
    sequences = []
    for number in range(count):
        length = int(torch.randint(4, 13, (1,), generator=generator))
        tokens = torch.randint(3, 61, (length,), generator=generator).tolist()
        sequences.append(TokenSequence(f"{prefix}{number}", tuple(tokens), (False,) + (True,) * (length - 1)))
    return TextSet(sequences, pad_id=0)


@pytest.fixture
def sets() -> dict[str, TextSet]:
    """Ten examples to learn, seven to replay."""
    return {"learn": random_set("l", 10, 1), "replay": random_set("r", 7, 2)}


@pytest.fixture
def train(tiny_llama, tmp_path) -> Callable[..., Ended]:
    """Run a method on the tiny model."""

    def go(sets, name="finetune", options=None, folder: Path = tmp_path, **how) -> Ended:
        kind = methods.load(name)
        wanted = {n: sets[n] for n in kind.reference_sets if n in sets}
        reference = build_reference(tiny_llama, wanted, folder / "reference") if wanted else None
        method = kind(methods.configure(name, options or {}), reference)
        method.prepare(tiny_llama, sets)
        given = {
            "pairs": how.pop("pairs", {}),
            "stopping": how.pop("stopping", None),
            "progress": how.pop("progress", None),
        }
        training = Training(**{"learning_rate": 1e-2, "batch_size": 4, "num_train_epochs": 4, **how})
        return run(Job(method=method, model=tiny_llama, sets=sets, training=training, folder=folder, **given))

    return go
