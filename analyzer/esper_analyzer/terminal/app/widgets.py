"""The Textual widgets of the screen: panels of drawn text, a chooser, a page of text."""

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
    """Lines of text, shown as they are. Wrapping and links by Textual would cost as much as drawing them."""

    def __init__(self, lines: Sequence[Text]) -> None:
        self.lines = lines

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """Return a strip for each line, with its style on top of the given one."""
        base = style.rich_style
        return [Strip(Segment.apply_style(line.render(_CONSOLE), base)) for line in self.lines[:height]]

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """Return the cells of the longest line."""
        return max((line.cell_len for line in self.lines), default=0)

    def get_height(self, rules: RulesMap, width: int) -> int:
        """Return the number of lines."""
        return len(self.lines)


class Panel(Widget):
    """A rectangle of text; every refresh redraws it with `draw(width, height)`."""

    ALLOW_SELECT = False  # with Shift, the terminal itself selects text

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
        """Draw the text and cut it to the size of the panel."""
        width, height = self.size
        lines = list(self._draw(width, height))[:height]
        if not self._unicode:
            lines = [in_ascii(line) for line in lines]
        for line in lines:
            line.truncate(width)
        return Lines(lines)

    def on_click(self, event: Click) -> None:
        """Tell the screen which cell was clicked."""
        self.post_message(self.Clicked(self, event.x, event.y))


class Chooser(ModalScreen[str | None]):
    """A list to choose one entry from; typing leaves only the entries that contain the text."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back"),
        Binding("down", "move(1)", priority=True),
        Binding("up", "move(-1)", priority=True),
    ]

    def __init__(self, title: str, entries: Sequence[tuple[str, Text]], *, unicode: bool) -> None:
        """Each entry is the value to return and the text to show."""
        super().__init__(classes="" if unicode else _ASCII_CLASS)
        self._title = title
        self._entries = [(key, text if unicode else in_ascii(text)) for key, text in entries]

    def compose(self) -> ComposeResult:
        """Create the input line above the list."""
        with Vertical(id="box"):
            yield Input(placeholder=f"{self._title}: type to filter, Enter chooses, Esc goes back", compact=True)
            yield OptionList(*(Option(text, id=key) for key, text in self._entries), compact=True)

    def on_mount(self) -> None:
        """Focus the input line, so that typing filters at once."""
        self.query_one(Input).focus()
        self._show("")

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self._show(event.value)

    def _show(self, part: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(text, id=key) for key, text in self._matching(part))
        options.highlighted = 0 if options.option_count else None

    def _matching(self, part: str) -> list[tuple[str, Text]]:
        """Return the entries that belong to what is typed."""
        wanted = part.strip().lower().replace(" ", "_")
        return [
            (key, text)
            for key, text in self._entries
            if wanted in key.lower() or part.strip().lower() in text.plain.lower()
        ]

    def action_move(self, steps: int) -> None:
        """Move through the list while the input line keeps the focus."""
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
    """A page of text: the help, or a whole verdict."""

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
        """Create a box whose text scrolls if it is longer than the terminal."""
        with VerticalScroll(id="box") as box:
            box.border_subtitle = "Esc closes, arrows scroll"
            yield Static(markup=False)

    def on_resize(self) -> None:
        """Wrap the text to the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        width = max(20, self.query_one("#box").content_size.width)
        lines = [part for line in self._text.split("\n") for part in hanging(line, width)]
        self.query_one(Static).update("\n".join(lines))


def hanging(line: str, width: int) -> list[str]:
    """Wrap a line at this width; later parts align with the text of the first, after its key if it has one."""
    is_key = "  " in line[2:_KEY_CELLS]
    indent = _KEY_CELLS if is_key else len(line) - len(line.lstrip())
    return wrap(line, width, subsequent_indent=" " * indent) or [""]
