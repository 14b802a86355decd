"""`tail` and `replay` as an application on the whole terminal; `run_app` and `run_replay` show it.

Layers, each of which knows only those before it: `history`, `window`, `clock` and `picture` are values; a `feed`
(`live`, `recorded`) makes pictures of a run; `reader` does that in a thread; `plot` and `panels` draw pictures as text;
`widgets` and `app` put the text on a terminal by Textual.
"""

from __future__ import annotations

from esper_analyzer.terminal.app.start import run_app, run_replay

__all__ = ["run_app", "run_replay"]
