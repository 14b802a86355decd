"""Every error that Esper raises, as one tree.

    EsperError                    base; str(error) is one line: expected, found, what to do
    ├── UsageError                a wrong argument, option or combination of them (also a ValueError)
    │   ├── PayloadError          a value, or a set of values, that is not a valid PPO update
    │   └── RunExistsError        the run id is taken, and the caller did not ask to resume
    ├── NotARunError              nothing to read: no such folder, or no Esper run in it
    ├── RunUnreadableError        the folder of a run cannot be opened, for lack of permission for example
    ├── StoreError                an object store does not answer, or refuses; nothing is known of the run
    ├── RunLockedError            another process is writing this rank of the run
    ├── RunDamagedError           bytes on disk break a promise of FORMAT.md; the message says where
    ├── FormatVersionError        a newer Esper wrote the run
    ├── WorkersFailedError        no worker of an engine can work (in `esper_analyzer.engines`)
    └── TrainingFailedError       an error that is not Esper's ended `esper-rec train` (in `esper_recorder.train`)

Esper passes on an `OSError` of the disk unchanged where the caller can act on it.
"""


class EsperError(Exception):
    """Base of all errors of Esper; `str(error)` is one line that says what to do."""


class UsageError(EsperError, ValueError):
    """The caller passed a wrong argument, option or combination of them."""


class PayloadError(UsageError):
    """A value, or a set of values, is not a valid PPO update."""


class RunExistsError(UsageError):
    """The run id is taken, and the caller did not ask to resume."""


class NotARunError(EsperError):
    """There is nothing to read: no such folder, or no Esper run in it."""


class RunUnreadableError(EsperError):
    """The folder of a run cannot be opened, for lack of permission for example."""


class StoreError(EsperError):
    """An object store does not answer, or refuses; nothing is known of the run, so nothing is damaged either."""


class RunLockedError(EsperError):
    """Another process is writing this rank of the run."""


class RunDamagedError(EsperError):
    """Bytes on disk break a promise of FORMAT.md; the message says where."""


class FormatVersionError(EsperError):
    """A newer Esper wrote the run."""


def describe_error(error: BaseException, data_errors: tuple[type[BaseException], ...] = ()) -> str:
    """The error as one line for people. Pass it through `printable` before you show it.

    Args:
        error: an error of Esper, of the disk, or one of `data_errors`.
        data_errors: types of error that a library raises when it cannot decode the rows of a run.
    """
    text = " ".join(str(error).split())
    if isinstance(error, data_errors):
        return f"the run's data is damaged: cannot decode its rows ({text[:300]})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    return text or type(error).__name__
