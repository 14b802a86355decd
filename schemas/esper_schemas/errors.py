"""Every error that Esper raises, as one tree.

    EsperError                    base; str(error) is one line: expected, found, what to do
    ├── UsageError                the caller asked for something that cannot be (also a ValueError)
    │   ├── PayloadError          a value, or a set of values, that is no PPO update
    │   └── RunExistsError        the run id is taken and resuming was not asked for
    ├── NotARunError              nothing to read: no such folder, or no Esper run in it
    ├── RunUnreadableError        the folder of a run may not be opened
    ├── RunLockedError            another process is writing this rank of the run
    ├── RunDamagedError           bytes on disk that break a promise of FORMAT.md; says where
    ├── FormatVersionError        written by a newer Esper than this one
    └── TrainingFailedError       `esper-rec train` ended by an error that is not Esper's (in `esper_recorder.train`)

An `OSError` of the disk is passed on as it is where the caller can act on it.
"""


class EsperError(Exception):
    """Base of all errors of Esper; `str(error)` is one line that says what to do."""


class UsageError(EsperError, ValueError):
    """The caller asked for something that cannot be."""


class PayloadError(UsageError):
    """A value, or a set of values, that is no PPO update."""


class RunExistsError(UsageError):
    """The run id is taken and resuming was not asked for."""


class NotARunError(EsperError):
    """There is nothing to read: no such folder, or no Esper run in it."""


class RunUnreadableError(EsperError):
    """The folder of a run may not be opened, so nobody knows what is in it."""


class RunLockedError(EsperError):
    """Another process is writing this rank of the run."""


class RunDamagedError(EsperError):
    """Bytes on disk break a promise of FORMAT.md; the message says where."""


class FormatVersionError(EsperError):
    """The run was written by a newer Esper than this one."""


def describe_error(error: BaseException, data_errors: tuple[type[BaseException], ...] = ()) -> str:
    """The error as one line for people, which is not cleaned yet.

    Args:
        error: an error of Esper, of the disk, or one of `data_errors`.
        data_errors: what a library raises where it cannot decode the rows of a run.
    """
    text = " ".join(str(error).split())
    if isinstance(error, data_errors):
        return f"the run's data is damaged: cannot decode its rows ({text[:300]})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    return text or type(error).__name__
