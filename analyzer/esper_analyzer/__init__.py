"""The analyzer of recorded PPO runs, live or finished: histories, trends, levels, alerts, verdict, reports.

A name is loaded on first use, so that importing a part of the package, such as the command's options, is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esper_analyzer.explaining.explanation import Explanation, Moved
    from esper_analyzer.explaining.pair import Parted, Parting
    from esper_analyzer.judging import signals
    from esper_analyzer.judging.alerts import Alert
    from esper_analyzer.judging.monitor import LiveMonitor, live_monitor
    from esper_analyzer.judging.settings import Settings, find_settings, read_settings
    from esper_analyzer.judging.verdict import Reason, Verdict
    from esper_analyzer.listing.references import with_references
    from esper_analyzer.measuring.levels import level, loss_ratio, severity
    from esper_analyzer.measuring.snapshot import MetricState, Snapshot
    from esper_analyzer.measuring.trends import Trend, long_trend, trend, trend_of
    from esper_analyzer.notebook.overlay import plot_runs
    from esper_analyzer.reading.black_boxes import BlackBox
    from esper_analyzer.reporting.comparison.compare import compare
    from esper_analyzer.reporting.comparison.comparison import Comparison
    from esper_analyzer.reporting.report import Report
    from esper_analyzer.run import Run, open_run
    from esper_schemas.examining.faults import Fault
    from esper_schemas.run.ending import Status

__all__ = [
    "Alert",
    "BlackBox",
    "Comparison",
    "Explanation",
    "Fault",
    "LiveMonitor",
    "MetricState",
    "Moved",
    "Parted",
    "Parting",
    "Reason",
    "Report",
    "Run",
    "Settings",
    "Snapshot",
    "Status",
    "Trend",
    "Verdict",
    "compare",
    "find_settings",
    "level",
    "live_monitor",
    "long_trend",
    "loss_ratio",
    "open_run",
    "plot_runs",
    "read_settings",
    "severity",
    "signals",
    "trend",
    "trend_of",
    "with_references",
]

_ON_FIRST_USE = {
    "Alert": "esper_analyzer.judging.alerts",
    "BlackBox": "esper_analyzer.reading.black_boxes",
    "Comparison": "esper_analyzer.reporting.comparison.comparison",
    "Explanation": "esper_analyzer.explaining.explanation",
    "Fault": "esper_schemas.examining.faults",
    "LiveMonitor": "esper_analyzer.judging.monitor",
    "MetricState": "esper_analyzer.measuring.snapshot",
    "Moved": "esper_analyzer.explaining.explanation",
    "Parted": "esper_analyzer.explaining.pair",
    "Parting": "esper_analyzer.explaining.pair",
    "Reason": "esper_analyzer.judging.verdict",
    "Report": "esper_analyzer.reporting.report",
    "Run": "esper_analyzer.run",
    "Settings": "esper_analyzer.judging.settings",
    "Snapshot": "esper_analyzer.measuring.snapshot",
    "Status": "esper_schemas.run.ending",
    "Trend": "esper_analyzer.measuring.trends",
    "Verdict": "esper_analyzer.judging.verdict",
    "compare": "esper_analyzer.reporting.comparison.compare",
    "find_settings": "esper_analyzer.judging.settings",
    "level": "esper_analyzer.measuring.levels",
    "live_monitor": "esper_analyzer.judging.monitor",
    "long_trend": "esper_analyzer.measuring.trends",
    "loss_ratio": "esper_analyzer.measuring.levels",
    "open_run": "esper_analyzer.run",
    "plot_runs": "esper_analyzer.notebook.overlay",
    "read_settings": "esper_analyzer.judging.settings",
    "severity": "esper_analyzer.measuring.levels",
    "signals": "esper_analyzer.judging",
    "trend": "esper_analyzer.measuring.trends",
    "trend_of": "esper_analyzer.measuring.trends",
    "with_references": "esper_analyzer.listing.references",
}
"""The module of each public name."""


def __getattr__(name: str) -> object:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_ON_FIRST_USE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
