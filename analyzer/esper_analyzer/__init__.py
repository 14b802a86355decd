"""The instrument that reads recorded PPO runs: histories, trends, health, verdict, live and offline."""

from esper_analyzer.alerts import Alert
from esper_analyzer.health import LEVEL_TYPE, LEVELS, level, level_of, levels_of, loss_ratio, severity
from esper_analyzer.report import Report
from esper_analyzer.run import Run, Status, open_run
from esper_analyzer.segment_index import SCHEMA
from esper_analyzer.snapshot import MetricState, Snapshot, take_snapshot
from esper_analyzer.sparklines import sparkline
from esper_analyzer.trends import Trend, trend, trend_of
from esper_analyzer.verdict import RunFacts, Verdict, judge
from esper_schemas.faults import Fault

__all__ = [
    "LEVELS",
    "LEVEL_TYPE",
    "SCHEMA",
    "Alert",
    "Fault",
    "MetricState",
    "Report",
    "Run",
    "RunFacts",
    "Snapshot",
    "Status",
    "Trend",
    "Verdict",
    "judge",
    "level",
    "level_of",
    "levels_of",
    "loss_ratio",
    "open_run",
    "severity",
    "sparkline",
    "take_snapshot",
    "trend",
    "trend_of",
]
