"""What the examination of one rank found."""

from __future__ import annotations

from dataclasses import dataclass, field

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.black_boxes import BlackBoxExamination
from esper_schemas.examining.faults import Fault, FaultKind, KnownLosses, Loss
from esper_schemas.examining.segment import Depth, SegmentExamination
from esper_schemas.run.files import Folder
from esper_schemas.run.records import Attempt
from esper_schemas.run.storage import Storage
from esper_schemas.segment.holds import Range


@dataclass(slots=True)
class RankExamination:
    """The result of examining one rank.

    Attributes:
        storage: the folder of the rank.
        rank: its number.
        depth: how deep the examination went.
        faults: faults and notes about the rank; those of a segment are in its examination.
        segments: every segment that exists, in order.
        attempts: attempt records that can be read, by number.
        bad_attempts: number → reason, for attempts whose record is missing, unreadable or wrong.
        absent_attempts: the numbers of `bad_attempts` whose record is missing.
        losses: losses that no repair has recorded yet.
        known: losses that repairs have recorded.
        black_boxes: the black boxes in which nothing is wrong, oldest first.
        bad_black_boxes: name → reason, for black boxes that are incomplete, damaged or of another recording.
        misplaced: names of files that do not belong where they are.
        leftovers: whether an interrupted writer left something that recovery would remove.
        orphan_seals: numbers of seals whose segment does not exist.
        writing: whether a writer was running during the examination.
        gaps: all sequence numbers that neither a row nor a drop explains, whether a repair has recorded them or not.
        last_seq: sequence number of the last row.
    """

    storage: Storage
    rank: int
    depth: Depth
    known: KnownLosses
    faults: list[Fault] = field(default_factory=list)
    segments: list[SegmentExamination] = field(default_factory=list)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    bad_attempts: dict[int, str] = field(default_factory=dict)
    absent_attempts: set[int] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    black_boxes: list[BlackBoxExamination] = field(default_factory=list)
    bad_black_boxes: dict[str, str] = field(default_factory=dict)
    misplaced: list[str] = field(default_factory=list)
    leftovers: bool = False
    orphan_seals: list[int] = field(default_factory=list)
    writing: bool = False
    gaps: list[Range] = field(default_factory=list)
    last_seq: int = -1

    def say(self, kind: FaultKind, message: str, segment: int | None = None) -> None:
        """Add a fault without an offset."""
        self.faults.append(Fault(self.rank, segment, kind, None, " ".join(message.split())[:1000]))

    @property
    def is_partial(self) -> bool:
        """Whether it is a copy in an object store whose newest files may not be there: its run has not ended.

        The run goes on, or was cut; nobody can tell which.
        """
        return self.writing and not isinstance(self.storage, Folder)

    @property
    def all_faults(self) -> list[Fault]:
        """All faults, including those of segments. The torn end of a segment that is being written does not count."""
        last = self.segments[-1].number if self.segments else None
        of_segments = [fault for segment in self.segments for fault in segment.faults]
        if self.writing:
            of_segments = [fault for fault in of_segments if fault.kind != "torn" or fault.segment != last]
        return [*of_segments, *self.faults, *self.known.faults()]

    @property
    def has_no_end(self) -> bool:
        """Whether its last attempt may still run, or was cut."""
        return not self.attempts or self.attempts[max(self.attempts)].status is None

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder of the rank. A folder that cannot be listed is a fault, reported once."""
        try:
            return self.storage.names(folder)
        except (RunDamagedError, OSError) as error:
            where = self.storage.where(folder)
            said = str(error) if isinstance(error, RunDamagedError) else f"{where}: {error.strerror}"
            if all(fault.message != said for fault in self.faults):
                self.say("unreadable", said)
            return []
