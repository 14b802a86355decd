"""The exit codes of both commands and their meanings; README.md shows this table."""

from __future__ import annotations

from enum import IntEnum

from esper_schemas.errors import RunDamagedError


class ExitCode(IntEnum):
    """How a command ended.

    Attributes:
        meaning: what the code means, for people; a row of the table in README.md.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str = "") -> ExitCode:
        """Create a member with its meaning. A call without one, `ExitCode(128 + SIGTERM)`, looks up the member."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    FINE = 0, "the command did what it was asked to do"
    VERDICT = 1, "the verdict, or a gate, reached `--fail-on` of `check` or `fleet`, or `--stop-on` of `train`"
    USAGE = 2, "wrong usage, nothing to read, or a file that could not be read or written"
    DAMAGED = 3, "the run's data is damaged; what can be read of it is shown"
    DEFECT = 70, "a defect of Esper itself; please report it"
    INTERRUPTED = 130, "Ctrl-C (SIGINT); a run that was being recorded is sealed"
    TERMINATED = 143, "SIGTERM; a run that was being recorded is sealed"

    @classmethod
    def of_error(cls, error: BaseException, data_errors: tuple[type[BaseException], ...] = ()) -> ExitCode:
        """The exit code of a command that ended with an error of Esper or of the disk.

        Args:
            error: the error that ended it.
            data_errors: further types of error that mean damaged data, besides `RunDamagedError`.
        """
        return cls.DAMAGED if isinstance(error, (RunDamagedError, *data_errors)) else cls.USAGE
