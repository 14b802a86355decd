"""The analyzer of recorded PPO runs, live or finished: histories, trends, levels, alerts, verdict, reports."""

from esper_analyzer.explaining.explanation import Explanation, Moved
from esper_analyzer.explaining.pair import Parted, Parting
from esper_analyzer.judging import signals
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.monitor import LiveMonitor, live_monitor
from esper_analyzer.judging.settings import Settings, find_settings, read_settings
from esper_analyzer.judging.verdict import Reason, Verdict
from esper_analyzer.measuring.levels import level, loss_ratio, severity
from esper_analyzer.measuring.snapshot import MetricState, Snapshot
from esper_analyzer.measuring.trends import Trend, long_trend, trend, trend_of
from esper_analyzer.notebook.overlay import plot_runs
from esper_analyzer.reading.black_boxes import BlackBox
from esper_analyzer.reading.run_reader import Status
from esper_analyzer.reporting.comparison.compare import compare
from esper_analyzer.reporting.comparison.comparison import Comparison
from esper_analyzer.reporting.report import Report
from esper_analyzer.run import Run, open_run
from esper_schemas.examining.faults import Fault

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
]
