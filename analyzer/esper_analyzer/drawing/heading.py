"""The heading of the screen as text: name and status of a run, how far it is, its return and its speed."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from esper_analyzer.drawing.style import STATUS_STYLE, fit
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import Picture
from esper_analyzer.live.progress import Progress
from esper_analyzer.wording import compact, count, duration, rate
from esper_schemas.cleaning import printable
from esper_schemas.run.ending import GOING_ON, status_word

YOUNG_SECS = 2.0
"""A row younger than this is shown as "< 2 s ago"."""

_LEAST = 12  # cells of a part that is cut
_LEAST_REASON = 30  # cells of why a run ended; where fewer are left beside the name, it is below


def heading(run: JudgedRun, rank: int, picture: Picture, width: int, now: float | None = None) -> list[Text]:
    """Draw run, status and why it ended; below them what is known of it, the most important first, while there is room.

    Args:
        run, rank, picture: what is shown.
        width: cells there are.
        now: seconds since 1970; by default the time now.
    """
    said, run_id = picture.described_ending(is_imported=run.is_imported), printable(run.header.run_id)
    word, room = status_word(picture.status, is_imported=run.is_imported), width - 5 - cell_len(run_id)
    is_apart = said != word and room < min(cell_len(said), len(word) + _LEAST_REASON)
    status = Text(f"● {word if is_apart or said == word else fit(said, room)}")
    status.stylize(STATUS_STYLE.get(picture.status, "bold"))
    name = Text(" ").append(fit(run_id, width - 3 - status.cell_len), style="bold")
    first = name.append(" " * (width - 1 - name.cell_len - status.cell_len)).append_text(status)
    parts = [fit(said, width // 2) if is_apart else "", *_parts(run, rank, picture, now)]
    return [first, _fitting([part for part in parts if part], width)]


def _fitting(parts: list[str], width: int) -> Text:
    """Join the parts that fit. The first that does not is cut, if enough of it is left and nothing else would fit."""
    line = Text()
    for number, part in enumerate(parts):
        before = " · " if number else " "
        room = width - 1 - line.cell_len - len(before)
        if len(part) <= room or (number == len(parts) - 1 and room >= _LEAST):
            line.append(before).append(fit(part, room))
    line.stylize("dim")
    return line


def _parts(run: JudgedRun, rank: int, picture: Picture, now: float | None) -> Iterator[str]:
    header = run.header
    if picture.last_update is not None:
        progress = Progress.of(header.config, picture)
        of_all = "" if progress is None else f"{count(progress.done)} of {count(progress.total)}"
        is_steps = progress is not None and progress.is_steps
        yield f"update {picture.last_update}" + f" ({of_all})" * bool(of_all and not is_steps)
        returned = picture.last(picture.return_name)
        yield f"return {compact(returned)}" if returned is not None else ""
        yield f"rank {rank} of {max(header.world_size, rank + 1)}" if header.world_size > 1 or rank else ""
        if progress is not None and progress.left_secs is not None and picture.status == "live":
            yield f"ETA {duration(progress.left_secs)}"
        attempt = picture.recent["attempt"][-1]
        yield f"attempt {attempt}" if attempt else ""
        yield f"{rate(picture.updates_per_sec)}/s" if picture.updates_per_sec is not None else ""
        age = picture.age_secs(now)
        yield f"{_age(age)} ago" if age is not None and (run.is_imported or picture.status in GOING_ON) else ""
        yield f"{rate(picture.steps_per_sec)} steps/s" if picture.steps_per_sec is not None else ""
        steps, secs = picture.last("env_steps"), picture.last("elapsed_secs")
        yield f"{of_all if is_steps else count(int(steps))} steps" if steps is not None else ""
        yield duration(secs) if secs is not None else ""
    yield " on ".join(printable(part) for part in (header.trainer, header.env) if part)
    yield printable(header.device) if header.device else ""


def _age(secs: float) -> str:
    if secs < YOUNG_SECS:
        return f"< {YOUNG_SECS:.0f} s"
    return f"{secs:.0f} s" if secs < 120 else duration(secs)
