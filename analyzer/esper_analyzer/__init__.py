"""The analyzer of recorded PPO runs, live or finished: histories, trends, levels, alerts, verdict, reports."""

from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.monitor import LiveMonitor, live_monitor
from esper_analyzer.judging.settings import Settings, find_settings, read_settings
from esper_analyzer.judging.verdict import Reason, RunFacts, Verdict, conclude
from esper_analyzer.measuring.levels import LEVEL_TYPE, level, level_of, levels_of, loss_ratio, severity
from esper_analyzer.measuring.snapshot import MetricState, Snapshot, take_snapshot
from esper_analyzer.measuring.trends import (
    CONFIDENT,
    Trend,
    long_trend,
    long_trend_change,
    long_trend_confidence,
    long_trend_of,
    trend,
    trend_change,
    trend_confidence,
    trend_of,
)
from esper_analyzer.reading.run_reader import Status
from esper_analyzer.reading.segment_index import SCHEMA
from esper_analyzer.reporting.comparison.compare import Comparison, compare
from esper_analyzer.reporting.report import Report
from esper_analyzer.run import Run, open_run
from esper_schemas.examining.faults import Fault
from esper_schemas.metric.levels import LEVELS

__all__ = [
    "CONFIDENT",
    "LEVELS",
    "LEVEL_TYPE",
    "SCHEMA",
    "Alert",
    "Comparison",
    "Fault",
    "Judge",
    "LiveMonitor",
    "MetricState",
    "Reason",
    "Report",
    "Run",
    "RunFacts",
    "Settings",
    "Snapshot",
    "Status",
    "Trend",
    "Verdict",
    "compare",
    "conclude",
    "find_settings",
    "level",
    "level_of",
    "levels_of",
    "live_monitor",
    "long_trend",
    "long_trend_change",
    "long_trend_confidence",
    "long_trend_of",
    "loss_ratio",
    "open_run",
    "read_settings",
    "severity",
    "sparkline",
    "take_snapshot",
    "trend",
    "trend_change",
    "trend_confidence",
    "trend_of",
]
