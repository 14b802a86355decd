"""The parts of the screen as Textual widgets: panels that draw text to measure, a chooser, a page of help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import ClassVar

from rich.console import Console
from rich.segment import Segment
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.css.styles import RulesMap
from textual.events import Click
from textual.message import Message
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from esper_analyzer.drawing.style import in_ascii, to_ascii

_CONSOLE = Console(width=1000, legacy_windows=False)
_ASCII_CLASS = "-ascii"
_KEY_CELLS = 17  # of the column of keys in the page of help

Draw = Callable[[int, int], Sequence[Text]]


class Lines(Visual):
    """Lines of text as they are. What Textual does to a text, wrapping and links, would cost as much as drawing it."""

    def __init__(self, lines: Sequence[Text]) -> None:
        self.lines = lines

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """A strip for each line, its style on top of the given one."""
        base = style.rich_style
        return [Strip(Segment.apply_style(line.render(_CONSOLE), base)) for line in self.lines[:height]]

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """Cells of the longest line."""
        return max((line.cell_len for line in self.lines), default=0)

    def get_height(self, rules: RulesMap, width: int) -> int:
        """Number of lines."""
        return len(self.lines)


class Panel(Widget):
    """A rectangle of text, drawn anew by `draw(width, height)` whenever it is refreshed."""

    ALLOW_SELECT = False  # the terminal selects text, with Shift

    class Clicked(Message):
        """The mouse was pressed on a cell of a panel."""

        def __init__(self, panel: Panel, x: int, y: int) -> None:
            self.panel, self.x, self.y = panel, x, y
            super().__init__()

    def __init__(self, draw: Draw, name: str, *, unicode: bool) -> None:
        super().__init__(id=name)
        self.auto_links = False
        self._draw = draw
        self._unicode = unicode

    def render(self) -> Lines:
        """At most as many lines, and as wide, as the panel is."""
        width, height = self.size
        lines = list(self._draw(width, height))[:height]
        if not self._unicode:
            lines = [in_ascii(line) for line in lines]
        for line in lines:
            line.truncate(width)
        return Lines(lines)

    def on_click(self, event: Click) -> None:
        """Tell the screen where."""
        self.post_message(self.Clicked(self, event.x, event.y))


class Chooser(ModalScreen[str | None]):
    """A list to choose one entry of; what is typed leaves only the entries that contain it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back"),
        Binding("down", "move(1)", priority=True),
        Binding("up", "move(-1)", priority=True),
    ]

    def __init__(self, title: str, entries: Sequence[tuple[str, Text]], *, unicode: bool) -> None:
        """`entries` are what is returned, and what is shown for it."""
        super().__init__(classes="" if unicode else _ASCII_CLASS)
        self._title = title
        self._entries = [(key, text if unicode else in_ascii(text)) for key, text in entries]

    def compose(self) -> ComposeResult:
        """A line to type in, above the list."""
        with Vertical(id="box"):
            yield Input(placeholder=f"{self._title}: type to filter, Enter chooses, Esc goes back", compact=True)
            yield OptionList(*(Option(text, id=key) for key, text in self._entries), compact=True)

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(Input).focus()
        self._show("")

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self._show(event.value)

    def _show(self, part: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        wanted = part.strip().lower().replace(" ", "_")
        options.add_options(
            Option(text, id=key)
            for key, text in self._entries
            if wanted in key.lower() or part.strip().lower() in text.plain.lower()
        )
        options.highlighted = 0 if options.option_count else None

    def action_move(self, steps: int) -> None:
        """Go through the list while the line to type in keeps the keys."""
        options = self.query_one(OptionList)
        if options.option_count:
            options.highlighted = ((options.highlighted or 0) + steps) % options.option_count

    @on(Input.Submitted)
    def _choose(self) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.dismiss(options.get_option_at_index(options.highlighted).id)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class Help(ModalScreen[None]):
    """A text to read: the keys, and how to read the screen; or all of a verdict."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back"),
        Binding("question_mark", "dismiss(None)", "back"),
        Binding("v", "dismiss(None)", "back"),
        Binding("q", "dismiss(None)", "back"),
    ]

    def __init__(self, text: str, *, unicode: bool) -> None:
        super().__init__(classes="" if unicode else _ASCII_CLASS)
        self._text = text if unicode else to_ascii(text)

    def compose(self) -> ComposeResult:
        """Text that scrolls where it is longer than the terminal."""
        with VerticalScroll(id="box") as box:
            box.border_subtitle = "Esc closes, arrows scroll"
            yield Static(markup=False)

    def on_resize(self) -> None:
        """Fill the lines anew."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        width = max(20, self.query_one("#box").content_size.width)
        lines = [part for line in self._text.split("\n") for part in hanging(line, width)]
        self.query_one(Static).update("\n".join(lines))


def hanging(line: str, width: int) -> list[str]:
    """A line broken at this width; the later parts begin below the text of the first, which may follow a key."""
    is_key = "  " in line[2:_KEY_CELLS]
    indent = _KEY_CELLS if is_key else len(line) - len(line.lstrip())
    return wrap(line, width, subsequent_indent=" " * indent) or [""]
