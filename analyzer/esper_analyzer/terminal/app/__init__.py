"""`tail` and `replay` as a Textual application on the whole terminal; `run_app` and `run_replay` show it.

The layers below it know nothing of Textual. A feed of `esper_analyzer.live` makes pictures of a run, and a reader runs
it in a thread. The scene draws a picture as text with the panels of `esper_analyzer.drawing`. `widgets` and `app` put
that text on the terminal.
"""

from __future__ import annotations

from esper_analyzer.terminal.app.start import run_app, run_replay

__all__ = ["run_app", "run_replay"]
