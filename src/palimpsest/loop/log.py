"""The run's log: JSON lines always, a tracker where one is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.durable import check_held_still, flush, put
from palimpsest.untrusted import parse_json


class RunLog:
    """Append-only JSON lines, one per step or check; a resumed run drops the lines after its checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = len(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """All complete lines; a line cut off by a crash is left out."""
        if not self._path.exists():
            return []
        rows = []
        for line in self._path.read_bytes().splitlines():
            try:
                rows.append(parse_json(line.decode()))
            except ValueError:
                break  # only the last line can be cut; what follows a cut is not ours
        return rows

    def keep(self, count: int) -> None:
        """Keep the first rows only: later ones belong to work that a crash undid."""
        kept = self.rows()[:count]
        check_held_still(self._path)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        put(temporary, self._path)
        self.count = len(kept)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row; a killed process keeps it, a power cut may not before ``flush``."""
        check_held_still(self._path)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")
        self.count += 1

    def flush(self) -> None:
        """Have all rows on the disk, before a checkpoint counts on them."""
        flush(self._path)
