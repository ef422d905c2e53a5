"""The page of architectures is made of its rows."""

from __future__ import annotations

from tests.hardening.architectures import ARCHITECTURES

from architectures import PAGE, is_exact, read, table


def test_the_page_is_made_of_its_rows() -> None:
    rows = read(PAGE.parent / "results" / "architectures.jsonl")
    assert PAGE.read_text(encoding="utf-8") == "\n".join(table(rows)) + "\n"
    assert {row["type"] for row in rows} == set(ARCHITECTURES)
    assert all(is_exact(row) and set(row["runs"].values()) == {"ended"} for row in rows)
