"""URLs of object stores, and what is kept of their objects; `tests/object_store` reads real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from esper_schemas import UsageError
from esper_schemas.run.bucket import KEPT_BYTES, Kept, merged
from esper_schemas.run.store import StoreUrl, is_url, parse_place, path_below


@pytest.mark.parametrize(
    ("text", "root", "key"),
    [
        ("s3://bucket/runs/mine", "s3://bucket", "runs/mine"),
        ("s3://bucket/runs//mine/", "s3://bucket", "runs/mine"),
        ("S3://bucket", "s3://bucket", ""),
        ("gs://bucket/a", "gs://bucket", "a"),
        ("az://container/a", "az://container", "a"),
        ("s3:/bucket/a", "s3://bucket", "a"),  # a URL that was made a Path
    ],
)
def test_a_url_is_a_bucket_and_a_key(text: str, root: str, key: str) -> None:
    """A slash at the end, or twice, means nothing; the URL is written in one way."""
    url = parse_place(text)
    assert url == StoreUrl(root, key)
    assert str(url) == os.fspath(url) == (f"{root}/{key}" if key else root)
    assert StoreUrl.parse(str(url)) == url
    assert is_url(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("runs/mine", "runs/mine"),
        ("/runs/mine", "/runs/mine"),
        ("a:/b", "a:/b"),
        ("file:///runs/my%20run", "/runs/my run"),
        ("file://localhost/runs", "/runs"),
    ],
)
def test_what_is_a_path(text: str, path: str) -> None:
    """A path stays one, and a file URL becomes one."""
    assert parse_place(text) == Path(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://host/runs", "found https://"),
        ("memory://runs", "found memory://"),
        ("s3://", "expected a bucket"),
        ("s3:///runs", "expected a bucket"),
        ("s3://bucket/../runs", "expected a bucket and names in it"),
        ("s3://bucket/a\nb", "expected a bucket and names in it"),
        ("s3://key:secret@bucket/runs", "no user, password, query or fragment"),
        ("s3://bucket/runs?token=secret", "no user, password, query or fragment"),
        ("s3://bucket/runs#1", "no user, password, query or fragment"),
        ("s3://[bucket/runs", "found an invalid one"),
        ("file://host/runs", "expected file:///PATH"),
    ],
)
def test_what_is_no_place(text: str, said: str) -> None:
    """It is refused, and what may be a secret in it is not repeated."""
    with pytest.raises(UsageError, match=said) as caught:
        parse_place(text)
    assert "secret" not in str(caught.value)


def test_a_url_is_used_like_a_path() -> None:
    """Names are joined and taken apart, and a place is below another only at whole names."""
    url = StoreUrl.parse("s3://bucket/runs")
    mine = url / "sweep/mine"
    assert (str(mine), mine.name, mine.parent, url.name) == (
        "s3://bucket/runs/sweep/mine",
        "mine",
        url / "sweep",
        "runs",
    )
    assert (url.parent, url.parent.parent, url.parent.name) == (
        StoreUrl("s3://bucket"),
        StoreUrl("s3://bucket"),
        "bucket",
    )
    assert path_below(mine, url) == "sweep/mine"
    assert path_below(url, url) == ""
    assert path_below(StoreUrl.parse("s3://bucket/runs-2/a"), url) is None
    assert path_below(mine, Path("runs")) is path_below(Path("runs/mine"), url) is None
    assert path_below(Path("runs/mine"), Path("runs")) == "mine"


def test_ranges_that_touch_are_one() -> None:
    """Ranges are asked for in order, each byte once."""
    assert merged([(10, 20), (0, 5), (20, 30), (15, 18), (5, 6)]) == [(0, 6), (10, 30)]


def test_parts_of_an_object() -> None:
    """Only what is missing is fetched, and parts are read as one, though they may overlap."""
    kept, whole = Kept(), bytes(range(100))
    assert list(kept.gaps((0, 100))) == [(0, 100)]
    kept.parts = [(start, whole[start:stop]) for start, stop in ((10, 30), (20, 40), (22, 24), (60, 70))]
    assert list(kept.gaps((0, 100))) == [(0, 10), (40, 60), (70, 100)]
    assert list(kept.gaps((15, 35))) == []
    assert kept.read((15, 35)) == whole[15:35]
    assert kept.read((62, 65)) == whole[62:65]
    assert kept.size == 20 + 20 + 2 + 10 < KEPT_BYTES
