from __future__ import annotations

import json
from typing import Any

import pytest

from esper_analyzer.serving.bounds import MAX_BYTES, MAX_TEXT, answer_text, cleaned
from esper_schemas.errors import UsageError


def bounded(document: dict[str, Any]) -> dict[str, Any]:
    """The answer with this document."""
    text = answer_text(document)
    assert len(text) <= MAX_BYTES
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_small_document_is_whole() -> None:
    """What fits is not touched."""
    document = {"format": "x/1", "runs": [{"name": "a", "value": 1.5}], "nothing": None, "text": "größer ∞"}
    assert bounded(document) == {**bounded({}), "left_out": [], "document": document}


def test_largest_list_is_cut_first() -> None:
    """Of a document that is too large, the largest list loses its end; what is small stays whole."""
    answer = bounded({"alerts": list(range(30_000)), "reasons": ["one", "two"], "verdict": {"level": "critical"}})
    kept = answer["document"]["alerts"]
    assert kept == list(range(len(kept)))
    assert len(kept) > 5_000
    assert answer["left_out"] == [
        f"alerts: the first {len(kept)} of 30 000".replace(str(len(kept)), f"{len(kept):,}".replace(",", " "))
    ]
    assert answer["document"]["reasons"] == ["one", "two"]
    assert answer["document"]["verdict"] == {"level": "critical"}


def test_fixed_keys_are_never_cut() -> None:
    """An object whose keys have a meaning keeps them all; one whose keys are names loses some."""
    answer = bounded(
        {
            "run": {f"key {number}": "x" * 90 for number in range(100)},
            "metrics": {f"metric {number}": {"history": [0.1] * 10} for number in range(5_000)},
        }
    )
    assert len(answer["document"]["run"]) == 100
    assert 0 < len(answer["document"]["metrics"]) < 5_000
    assert all(one == {"history": [0.1] * 10} for one in answer["document"]["metrics"].values())


def test_inner_list_is_cut_where_it_is_what_is_large() -> None:
    """A list of few entries, one of which is large, keeps its entries."""
    answer = bounded({"boxes": [{"last": list(range(50_000))}, {"last": [1]}]})
    assert len(answer["document"]["boxes"]) == 2
    assert answer["document"]["boxes"][1] == {"last": [1]}
    assert answer["left_out"][0].startswith("boxes/0/last: the first ")


def test_document_that_cannot_be_cut_is_refused() -> None:
    """If only objects with fixed keys are left, the answer is an error that says what to do."""
    with pytest.raises(UsageError, match="ask for less, or use the command"):
        answer_text({f"key {number}": "x" * 400 for number in range(1_000)})


def test_texts_are_cut_and_cleaned() -> None:
    """A text is at most so long, whatever it holds, and names that become the same stay apart."""
    assert cleaned("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert cleaned("x" * (MAX_TEXT + 1)) == "x" * MAX_TEXT + "… (1 more characters)"
    assert cleaned("\x1b\n\u202e") == "\\x1b\\n\\u202e"
    document = bounded({"\n": 1, "\\n": 2, "x" * 600: 3})["document"]
    assert list(document.values()) == [1, 2, 3]
    assert len(document) == 3


def test_adversarial_document_is_bounded() -> None:
    """Every shape of list in list ends in an answer or an error, within the bound."""
    for document in (
        {"a": [[[["x" * 500] * 50] * 10] * 10]},
        {"signals": {"n" * 500 + str(i): "\U0001f600" * 500 for i in range(50)}},
    ):
        assert len(answer_text(document)) <= MAX_BYTES
