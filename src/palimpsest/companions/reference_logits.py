"""Class logits of the model before a run on images, kept while the run lasts."""

from __future__ import annotations

from collections.abc import Collection

from palimpsest.companions.companion import Companion, Forgotten, Held
from palimpsest.models.class_logits import CachedLogits
from palimpsest.models.deciding import file_digest


class ReferenceLogits(Companion):
    """The cache of ``models/class_logits.py``. It goes with its run, and is never handed on."""

    kind = "reference_logits"
    within = "reference/logits.safetensors"
    handed_on = False

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those whose logits are there."""
        return self._cache.holds(ids) if self.folder.is_file() else frozenset()

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Write the others anew."""
        held = self.holds(ids)
        if held:
            self._cache.forget(held)
        return Forgotten(held, len(held))

    def digest(self) -> str:
        """Of the file."""
        return file_digest(self.folder)

    def held(self) -> Held:
        """An example is a row of logits."""
        count = len(self._cache)
        return Held(count, count, self.folder.stat().st_size)

    @property
    def _cache(self) -> CachedLogits:
        return CachedLogits(self.folder.parent)


COMPANION = ReferenceLogits
