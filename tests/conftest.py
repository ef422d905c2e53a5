"""Fixtures that every test may use. Array shapes in signatures are checked at run time while tests run."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test reads or makes the key of whoever runs it; the processes of one run of the suite share one.
os.environ["PALIMPSEST_KEY_FILE"] = str(Path(tempfile.gettempdir()) / f"palimpsest-tests-{os.getuid()}" / "key")

gc.disable()  # until all is imported and collected: nothing of it goes away

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(
    ["palimpsest.data.encode.batch", "palimpsest.methods", "palimpsest.models.divergence"], "beartype.beartype"
)

import torch  # noqa: E402 (the environment is set first)
from tests.documents import environment  # noqa: E402
from tests.order import dealt  # noqa: E402
from tests.warm import WarmPython  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

torch.set_num_threads(1)
# No test ends in a power cut, and what a process wrote is there for the next one without it. A run asks for it some
# fifty times, milliseconds each, in which its worker only waits.
os.fsync = lambda _descriptor: None
settings.register_profile("house", deadline=None)  # tests are never timed
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first in every worker's part, whole: what their tests share is made once."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = {item.path for item in items if item.get_closest_marker("long")}
    items[:] = dealt(items, workers, is_long=lambda item: item.path in long, file_of=lambda item: item.path)


def pytest_collection_finish() -> None:
    """What is imported by now is looked at by no garbage collection, in this process and in those that it forks.

    torch, transformers and 7,000 tests are a million objects; every run of ours collects once, and most forked
    processes copied all pages of them for it.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmPython]:
    """Fresh Python processes that need not import torch; one per worker to fork them from."""
    with WarmPython(environment()) as python:
        yield python


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real inputs beside the checkout; tests that need them skip where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real inputs are absent: no folder {folder}")
    return folder


@pytest.fixture
def tiny_llama() -> LlamaForCausalLM:
    """A 12-thousand-parameter Llama with grouped-query attention, random but seeded."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()
