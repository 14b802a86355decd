"""A run with the settings that it is judged by; every report and every screen takes one."""

from __future__ import annotations

from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.published_goals import published_goal
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, MOST_NAMED, Settings
from esper_analyzer.judging.task import Task
from esper_analyzer.reading.run_reader import RunReader
from esper_analyzer.wording import listed
from esper_schemas.cleaning import printable
from esper_schemas.errors import UsageError
from esper_schemas.run.directory import StoredRun
from esper_schemas.run.records import check_return_goal


class JudgedRun(RunReader):
    """A run with the settings that it is judged by.

    Attributes:
        settings: thresholds and rules.
        task: what it is trained on, and by what.
        return_goal: the goal of the episode return: what the settings say, else what the run declares, else what is
            published for its environment; None without any of these.
        is_goal_published: whether the goal is the published one, which nobody has declared.
        references: the reference runs of the settings that it is judged beside.
    """

    def __init__(self, directory: StoredRun, settings: Settings = DEFAULT_SETTINGS, *, verifies: bool = False) -> None:
        super().__init__(directory, verifies=verifies)
        self.settings = settings
        self.task = Task.of_header(self.header)
        told = settings.return_goal_of(self.header.env)
        said = _finite(self.header.return_goal) if told is None else told
        self.return_goal = published_goal(self.task) if said is None else said
        self.is_goal_published = said is None and self.return_goal is not None
        self.references = settings.references_of(self.task, self.header.run_uuid)

    @property
    def remarks(self) -> list[str]:
        """Remarks that go with a verdict on this run: also which runs it was judged beside, and which it was not."""
        return [*super().remarks, *self.remarks_on_references]

    @property
    def remarks_on_references(self) -> list[str]:
        """Which runs this one was judged beside, and which it was not, where references were named."""
        settings, env = self.settings, self.header.env
        said = []
        if self.references:
            said.append(f"It was judged beside {listed([one.name for one in self.references], MOST_NAMED)}.")
        for one in self.references:
            states = [name for name, is_so in (("critical", one.is_critical), ("damaged", one.is_damaged)) if is_so]
            if states:
                said.append(f"{one.name}, beside which it was judged, is {' and '.join(states)} itself.")
        elsewhere = settings.references_elsewhere(env)
        if elsewhere:
            others = listed([f"{one.name}, which is of {one.task.env}" for one in elsewhere], MOST_NAMED)
            said.append(f"It is of {env}, and was not judged beside {others}.")
        if settings.references_in and not self.references:
            why = settings.why_none_in_folders([self.task])
            said.append(f"It was judged beside no other run: {why}.")
        elif settings.references and not self.references and not elsewhere:
            said.append("It was judged beside no other run: the only reference is this run itself.")
        return [printable(one) for one in said]

    def judge(self) -> Judge:
        """Make a judge of this run, by its settings, its goal and its references, that has seen no rows."""
        return Judge(self.settings.rules, self.return_goal, self.references)


def _finite(declared: float | None) -> float | None:
    """Return a goal as a header has it; None for one that is not a finite number, as another writer may leave it."""
    try:
        return check_return_goal(declared)
    except UsageError:
        return None
