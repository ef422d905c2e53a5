"""Is everything that a file of weights holds in the model that was made of it?

Loading drops what the class has no place for, and says so in a log at most. A layer that was added to a model and
trained would so be saved, and gone at the next load: the folder answers as if it had never been.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError

# What older files hold and no class reads when it predicts tokens or classes. What a class itself names as such
# (_keys_to_ignore_on_load_unexpected) transformers has left out before.
NEVER_READ = re.compile(
    r"(^|\.)pooler\."  # BERT, ViT: of the first position, for other heads than those of a causal LM or a classifier
    r"|(^|\.)seq_relationship\."  # BERT: head for the next sentence
    r"|\.attn\.(attention\.)?(masked_)?bias$|\.attention\.masked_bias$"  # GPT-2, -J, -Neo, -NeoX: causal masks
    r"|(^|\.)rotary_emb\.inv_freq$|(^|\.)position_ids$|(^|\.)relative_position_index$"  # made anew from the config
)
"""Names of tensors that no class reads when it predicts."""


def check_whole(source: str | Path, model: Any, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Every weight of the model came from the file, and every weight of the file is in the model.

    Args:
        source: of the model, for the error.
        model: what was made.
        missing: weights of the model that the file lacks, or has in another shape.
        unexpected: weights of the file that the model has no place for; masks, poolers and the like may be among them.

    Raises:
        ModelError: names the first weight of either kind.
    """
    lacking = sorted(missing)
    if lacking:
        are = "weights are" if len(lacking) > 1 else "weight is"
        raise ModelError(f"model {source}: {len(lacking)} {are} missing or misshapen, e.g. {lacking[0]}")
    strange = sorted(name for name in unexpected if not NEVER_READ.search(name))
    if strange:
        have = "weights of its file have" if len(strange) > 1 else "weight of its file has"
        raise ModelError(
            f"model {source}: {len(strange)} {have} no place in a {type(model).__name__}, e.g. {strange[0]}; what was "
            "trained there would be lost: fold it into layers of that class, or take it out of the file"
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers from logging its table of what did not fit: the one line of the error says it."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # some errors are logged, whole configuration included, and then raised
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
