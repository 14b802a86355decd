"""The keys of the screen, the line that lists them, and the help page."""

from __future__ import annotations

from collections.abc import Sequence

KEYS: dict[str, str] = {
    "q": "quit",
    "question_mark": "help",
    "v": "verdict",
    "plus,equals_sign": "zoom(True)",
    "minus": "zoom(False)",
    "0": "whole",
    "left": "cursor(-1)",
    "right": "cursor(1)",
    "shift+left,left_square_bracket,pageup": "pan(-0.5)",
    "shift+right,right_square_bracket,pagedown": "pan(0.5)",
    "home": "edge(False)",
    "end": "edge(True)",
    "up": "alert(-1)",
    "down": "alert(1)",
    "escape": "clear",
    "l": "scale",
    "s": "smooth",
    "x": "axis",
    "c": "configuration",
    "b": "overlay",
    "m": "metric(1)",
    "M": "metric(-1)",
    "slash": "choose_metric",
    "g": "grid",
    "o": "choose_run",
    "r": "rank",
}
"""The action of each key; keys with the same action are separated by commas."""

REPLAY_KEYS: dict[str, str] = {
    "space": "play",
    "greater_than_sign": "speed(2.0)",
    "less_than_sign": "speed(0.5)",
    "full_stop": "step(1)",
    "comma": "step(-1)",
    "n": "next_alert(True)",
    "N": "next_alert(False)",
    "t": "timing",
}
"""The additional keys of a replay."""

HELP = """\
What to look at
  The verdict at the top says whether the critic is learning, why it may not be, and what to look at next.
  A level judges one value; the verdict judges what lasts. Lv/Lp (value loss over policy loss) never affects it:
  where it is beyond its limits, its number has a colour and the word beside it is "advisory".
  In the chart, ! marks a value that is not finite and a dotted line a limit. On its axis, ▲ marks where an
  alert was first raised and ◆ a new attempt. Above it are the limits of a warning, then the critical ones.
  "trend" compares the newer half of the last ten values with the older half; it is "unsteady" where they do not
  move one way. "sure" says how far the change stands out from noise.
  The list of alerts has one line for each rule: what ends a run first, then the worst. What is over is grey.
  A gauge is dotted where a value would be a warning, densely where critical.

Chart
  + −            zoom in and out, at the cursor or at the end
  Left Right     move the cursor; the values appear below the chart
  [ ]  PgUp PgDn half a screen earlier and later
  Home End       to the beginning; to the end, and follow it
  0              show the whole history
  l              scale of the values: automatic, logarithmic, linear
  s              smoothing: an average instead of the values, which stay behind it in grey
  x              horizontal axis: updates, environment steps, seconds of training
  m M            next and previous metric
  /              choose any metric by typing part of its name
  g              all metrics as small charts, page by page; Enter puts the marked one into the chart, Space pins
                 it: it comes first among the small charts of the screen, until Space takes it away

Alerts
  Up Down        previous and next alert: moves the cursor there, charts what it is about, shows the message
  Esc            clear the alert and the cursor

Elsewhere
  v              the verdict with all its reasons, or the full message of the selected alert
  o              another run: type a part of its line, or a filter such as return > 100
  b              draw another run over this one; once more: without it
  c              configuration of the run, and where it was recorded
  r              next rank
  ?              this page
  q              quit
"""

REPLAY_HELP = """
Time line
  Space          play and pause; at the end, play again
  < >            half speed and double speed
  . ,            one update forward and back
  n N            go to where the next or previous alert is raised, and pause
  t              recorded speed, or a fixed number of updates per second
"""

HINTS = (
    "? help",
    "q quit",
    "/ metric",
    "v verdict",
    "↑↓ alerts",
    "g grid",
    "+- zoom",
    "b overlay",
    "x axis",
    "o runs",
    "s smooth",
    "c config",
    "l scale",
)
REPLAY_HINTS = (
    "Space play",
    "? help",
    "q quit",
    "n/N alert",
    "<> speed",
    "., step",
    "/ metric",
    "v verdict",
    "+- zoom",
)
"""What the last line of the screen says, the most important first."""


def key_line(hints: Sequence[str], width: int) -> str:
    """Join as many of the hints as fit into `width` cells; those that do not are left out whole."""
    line = ""
    for hint in hints:
        if len(line) + 2 + len(hint) <= width:
            line += ("  " if line else " ") + hint
    return line
