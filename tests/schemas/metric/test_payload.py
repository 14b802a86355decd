from __future__ import annotations

import math
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch

from esper_schemas import METRICS, PayloadError, PPOUpdatePayload
from esper_schemas.metric.coercion import RECORDER_COLUMNS, coerce
from esper_schemas.metric.metrics import SKIP_REASONS
from esper_schemas.metric.payload import validate

GIVEN: dict[str, Any] = {"update": 1, "policy_loss": 0.1, "value_loss": 0.2}

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class Hostile:
    """A number-like object whose every conversion fails in its own way."""

    def __float__(self) -> float:
        raise RuntimeError("first line\nsecond line")

    def __index__(self) -> int:
        raise KeyError("no")

    def __repr__(self) -> str:
        raise ValueError("no repr either")


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("value_loss", 1, 1.0),
        ("value_loss", True, 1.0),
        ("value_loss", np.float32(0.1), float(np.float32(0.1))),
        ("value_loss", np.int8(-3), -3.0),
        ("value_loss", np.array(2.5), 2.5),
        ("value_loss", torch.tensor(0.25), 0.25),
        ("value_loss", torch.tensor([0.25]), 0.25),
        ("value_loss", torch.tensor(0.25, requires_grad=True), 0.25),
        ("value_loss", Decimal("0.5"), 0.5),
        ("value_loss", math.inf, math.inf),
        ("value_loss", 5e-324, 5e-324),
        ("env_steps", INT64_MAX, INT64_MAX),
        ("env_steps", INT64_MIN, INT64_MIN),
        ("env_steps", np.uint64(7), 7),
        ("env_steps", 3.0, 3),
        ("env_steps", torch.tensor(INT64_MAX), INT64_MAX),
        ("epochs_run", 2**31 - 1, 2**31 - 1),
        ("epochs_run", -(2**31), -(2**31)),
        ("skipped", np.bool_(True), True),
        ("skipped", torch.tensor(False), False),
        ("skipped", 1, True),
        ("skip_reason", 3, 3),
        ("wall_time", datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC), 1_000_005),
        ("wall_time", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1),
        ("wall_time", INT64_MAX, INT64_MAX),
    ],
)
def test_number_of_any_kind_is_stored_exactly(name: str, value: Any, stored: float) -> None:
    """Python, NumPy and torch numbers become the plain number that the column holds, of the column's type."""
    got = validate({**GIVEN, name: value})[name]
    assert got == stored
    assert type(got) is type(stored)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("value_loss", "0.5", "value_loss must be one float64 number, found str '0.5'"),
        ("value_loss", b"0.5", "found bytes"),
        ("value_loss", bytearray(b"0.5"), "found bytearray"),
        ("value_loss", memoryview(b"1"), "found memoryview"),
        ("value_loss", 1j, "found complex"),
        ("value_loss", [0.5], "found list [0.5]"),
        ("value_loss", 10**400, "too large"),
        ("value_loss", torch.tensor([1.0, 2.0]), "found Tensor"),
        ("value_loss", np.array([1.0, 2.0]), "found ndarray"),
        ("value_loss", Hostile(), "found Hostile (not printable) (first line second line)"),
        ("env_steps", Hostile(), "env_steps must be one int64 number, found Hostile (not printable)"),
        ("env_steps", 2**63, "env_steps must fit int64, found 9223372036854775808"),
        ("env_steps", INT64_MIN - 1, "must fit int64"),
        ("env_steps", 1e300, "must fit int64"),
        ("env_steps", 1.5, "env_steps must be one int64 number, found float 1.5 (not a whole number)"),
        ("env_steps", math.nan, "not a whole number"),
        ("env_steps", -math.inf, "not a whole number"),
        ("env_steps", torch.tensor(math.nan), "not a whole number"),
        ("epochs_run", 2**31, "epochs_run must fit int32, found 2147483648"),
        ("skipped", 2, "skipped must be True or False, found 2"),
        ("skipped", "yes", "found str 'yes'"),
        ("skip_reason", 99, "skip_reason must be one of"),
        ("wall_time", datetime(2026, 1, 1), "it has no time zone; give datetime.now(UTC)"),
        ("wall_time", 1.7e9 + 0.25, "wall_time must be whole microseconds since 1970, or a datetime with a time zone"),
        ("wall_time", 1.7e9 + 0.25, "; give time.time_ns() // 1000, or leave it out: the recorder fills it in"),
        ("wall_time", 1_700_000_000, "found int 1700000000 (these look like seconds or milliseconds); give time.time"),
        ("wall_time", 1.7e9, "these look like seconds"),
        ("wall_time", 1_700_000_000_000, "seconds or milliseconds"),
        (
            "wall_time",
            1_700_000_000_000_000_000,
            "(these look like nanoseconds); give time.time_ns() // 1000",
        ),
        ("wall_time", 1.7e18, "these look like nanoseconds"),
        ("wall_time", True, "found bool True (True and False are no numbers)"),
        ("update", True, "update must be one int64 number, found bool True (True and False are no numbers)"),
        ("epochs_run", np.True_, "True and False are no numbers"),
        ("episodes", torch.tensor(True), "True and False are no numbers"),
        ("wall_time", "now", "found str 'now'"),
        ("update", None, "update=… is missing"),
        ("policy_loss", None, "policy_loss=… is missing; if the update was skipped, say skipped=True"),
        ("value_loss", None, "value_loss=… is missing"),
    ],
)
def test_wrong_value_is_refused_and_named(name: str, value: Any, words: str) -> None:
    """What cannot be stored is refused in one line that says which column expected what, and what was found."""
    with pytest.raises(PayloadError) as caught:
        validate({**GIVEN, name: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_payload_bits_survive_validation() -> None:
    """A NaN keeps its bits, also as a NumPy number."""
    strange = np.uint64(0x7FF8_0000_DEAD_BEEF).view(np.float64)
    got = np.float64(validate({**GIVEN, "value_loss": strange})["value_loss"])
    assert got.view(np.uint64) == 0x7FF8_0000_DEAD_BEEF


def test_skipped_update_needs_no_losses() -> None:
    """A skipped update may come without losses; one that says skipped=False may not."""
    assert validate({"update": 3, "skipped": True, "skip_reason": 1}) == {
        "update": 3,
        "skipped": True,
        "skip_reason": 1,
    }
    with pytest.raises(PayloadError, match="policy_loss"):
        validate({"update": 3, "skipped": False})


@pytest.mark.parametrize(
    "name",
    ["", "a\nb", "a\x00b", "x" * 256, "é" * 128, "\ud800", "\u202e", 7, None, b"x", *RECORDER_COLUMNS],
)
def test_hostile_extra_name_is_refused(name: Any) -> None:
    """A name that no column can have, or that the recorder itself uses, is refused and shown in printable form."""
    with pytest.raises(PayloadError) as caught:
        PPOUpdatePayload(**GIVEN, extras={name: 1.0})
    assert str(caught.value).isprintable()


def test_extra_may_have_any_printable_name() -> None:
    """Spaces, slashes, quotes and other alphabets are fine, up to 255 bytes."""
    extras = {"train/my loss": 1.0, 'say "x"': 2.0, "température": 3.0, "x" * 255: 4.0, "none": None}
    payload = PPOUpdatePayload(**GIVEN, extras=extras)  # type: ignore[arg-type]  # None means not measured
    assert payload.to_dict() == {**GIVEN, "train/my loss": 1.0, 'say "x"': 2.0, "température": 3.0, "x" * 255: 4.0}


@pytest.mark.parametrize("name", ["value_loss", "update", "entropy"])
def test_extra_cannot_shadow_a_metric(name: str) -> None:
    """An extra with the name of a metric of the table is refused, given or not."""
    with pytest.raises(PayloadError, match="pass it as a keyword"):
        PPOUpdatePayload(**GIVEN, extras={name: 1.0})


def test_payload_is_validated_when_made() -> None:
    """A wrong payload cannot be made at all."""
    with pytest.raises(PayloadError, match="value_loss must be one float64"):
        PPOUpdatePayload(update=1, policy_loss=0.1, value_loss="high")  # type: ignore[arg-type]


def test_arriving_values_count_as_given() -> None:
    """Losses that are still on their way from a device do not read as missing."""
    assert validate({"update": 1}, arriving={"policy_loss", "value_loss"}) == {"update": 1}


def test_table_and_payload_declare_the_same() -> None:
    """Each metric's dtype is the type of its field: the annotation, the column and the docs cannot disagree."""
    annotation = {
        "float64": "float | None",
        "int64": "int | None",
        "int32": "int | None",
        "bool": "bool | None",
        "timestamp": "datetime | int | None",
    }
    declared = {entry.name: entry.type for entry in fields(PPOUpdatePayload) if entry.name != "extras"}
    assert declared.pop("update") == "int"
    assert declared == {name: annotation[metric.dtype] for name, metric in METRICS.items() if name != "update"}


def test_table_is_sane() -> None:
    """Every metric is described, thresholds stand in the order warning before critical, spreads name real columns."""
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.description
        assert "\n" not in metric.description
        assert metric.better in (None, "lower", "higher")
        assert metric.trend_threshold is None or 0 < metric.trend_threshold < 1
        bands = metric.bands
        if bands is None:
            continue
        for side in (">", "<"):
            warn = [limit.bound for limit in bands.warning if limit.comparison[0] == side]
            crit = [limit.bound for limit in bands.critical if limit.comparison[0] == side]
            assert len(warn) <= 1
            assert len(crit) <= 1
            if warn and crit:
                assert (warn[0] < crit[0]) if side == ">" else (warn[0] > crit[0])
        if bands.only_if is not None:
            assert {bands.only_if.low, bands.only_if.high} <= METRICS.keys()
        assert str(bands) or bands.nonfinite == "unknown"


def test_required_metrics_are_the_losses_and_the_index() -> None:
    """The caller must give the index of the update and both losses, and nothing else."""
    assert [name for name, metric in METRICS.items() if metric.required] == ["update", "policy_loss", "value_loss"]
    assert SKIP_REASONS[0] == "other"
    assert not METRICS.keys() & set(RECORDER_COLUMNS)


def test_coerce_takes_plain_floats_as_they_are() -> None:
    """The common case is the same object, so nothing can change on the way."""
    value = 0.1
    assert coerce("value_loss", "float64", value) is value
