"""A history is bound to the version it was written for."""

from __future__ import annotations

import pytest

from palimpsest.companions.owner import check_owner, write_owner
from palimpsest.errors import ModelError


def test_a_history_of_another_version_is_refused_and_one_that_is_not_bound_is_taken(tmp_path):
    check_owner(tmp_path, "sha", "model v")
    write_owner(tmp_path, "sha")
    check_owner(tmp_path, "sha", "model v")
    with pytest.raises(ModelError, match=r"beside model v are of another version.*delete .* and learn anew"):
        check_owner(tmp_path, "other", "model v")
    (tmp_path / "version.json").write_text('{"sha256": "0", "value": {"model": "sha"}}')
    with pytest.raises(ModelError, match="is damaged"):
        check_owner(tmp_path, "sha", "model v")
