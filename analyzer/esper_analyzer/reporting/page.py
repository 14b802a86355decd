"""What the pages have in common: their styles, their scripts, the policy that allows only those, the templates."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from esper_analyzer.wording import ADVISORY, compact, count, number, size, trend_words
from esper_schemas.cleaning import printable
from esper_schemas.metric.levels import PALETTE, Ground, Look

CHART_SCRIPTS = ("data.js", "axis.js", "marks.js", "values.js", "touch.js", "chart.js", "page.js")
"""The scripts of every page with charts, in the order in which they need each other."""

_ASSETS = resources.files("esper_analyzer.reporting") / "web"


def page_styles(*own: str) -> list[Markup]:
    """Return the style sheets of every page, then these of its own."""
    return [_asset("vendor/uPlot.min.css"), _level_colors(), _asset("report.css"), *map(_asset, own)]


def page_scripts(names: Sequence[str]) -> list[Markup]:
    """Return the library that draws, then these scripts."""
    return [_asset("vendor/uPlot.iife.min.js"), *map(_asset, names)]


def _asset(name: str) -> Markup:
    """Read a style sheet or script of this package, which goes into the page unescaped."""
    return Markup(_ASSETS.joinpath(name).read_text(encoding="utf-8"))


def _level_colors() -> Markup:
    """Return the palette of the levels as CSS custom properties, for a light and a dark page; grey is advisory."""

    def properties(ground: Callable[[Look], Ground]) -> str:
        colors = {level: ground(look) for level, look in PALETTE.items()}
        return (
            "".join(
                f"--{level}:{color.text};--{level}-tint:{color.tint};"
                + (f"--band-{level}:{color.band};" if color.band else "")
                for level, color in colors.items()
            )
            + f"--{ADVISORY}:{colors['unknown'].text};--band-{ADVISORY}:rgba(128,128,128,.1);"
        )

    light, dark = properties(lambda look: look.light), properties(lambda look: look.dark)
    on_dark = "@media screen and (prefers-color-scheme: dark)"
    return Markup(f":root{{{light}}} {on_dark} {{ :root:not(.printing){{{dark}}} }}")


def policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return the content security policy: only exactly these styles and scripts are allowed, and no requests."""

    def hashes(texts: Sequence[str]) -> str:
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def environment() -> Environment:
    """Return the template environment; it cleans every text of control characters, then escapes it."""
    environment = Environment(
        loader=FunctionLoader(lambda name: _ASSETS.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "compact": compact, "count": count, "number": number, "size": size,
        "trend": lambda trend, name: trend_words(name, trend).full,
    }  # fmt: skip
    return environment
