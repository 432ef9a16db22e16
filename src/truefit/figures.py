"""One look for every figure and table, and text for those who cannot see them.

Colours are those of Okabe and Ito, which people with any common colour blindness can tell apart.
"""

import re
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from weakref import WeakSet

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.category import StrCategoryLocator
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, LogFormatter

from truefit.digits import number, significant
from truefit.library_internals import left_title

BLUE, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#56B4E9", "#8A8A8A"
STYLE = Path(__file__).with_name("figures.mplstyle")
DPI = 200  # twice what the page shows, so that a sharp screen gets sharp lines
COLOURS = 128  # of the palette a figure is reduced to, which makes its file three times smaller
# However large a table is, its figures stay readable, and quick.
MOST_NAMES = 40  # on one axis
MOST_POINTS = 20_000
MOST_LETTERS = 48  # of a name; a title or a sentence may be longer
MOST_TICKS = 50  # on a logarithmic axis
# What is drawn takes its looks from Matplotlib's settings until the end, so they are given back
# with the last figure.
_drawn: WeakSet[Figure] = WeakSet()
_settings: dict[str, Any] = {}


def new(width: float = 7.2, height: float = 3.6, **subplots: Any) -> tuple[Figure, Any]:
    """``plt.subplots`` in the project's style; sizes in inches, at 100 pixels to the inch.

    The style lasts until the figure is shown by `show`; then the caller's settings are back.
    """
    if not _drawing():
        _settings.update(plt.rcParams.copy())
        del _settings["backend"]  # which cannot be set twice
    plt.rcdefaults()
    plt.style.use(STYLE)
    figure, axes = plt.subplots(figsize=(width, height), **subplots)
    _drawn.add(figure)
    return figure, axes


def _drawing() -> bool:
    """Whether a figure that `new` made is still to be shown."""
    return any(plt.fignum_exists(figure.number) for figure in _drawn)


def show(figure: Figure, alt: str, *, colours: int = COLOURS) -> None:
    """Show a figure with a text that says what it shows, and close it.

    Parameters
    ----------
    figure : Figure
    alt : str
        What a person would tell somebody who cannot see the figure.
    colours : int, optional
        Of the palette. A drawing of few lines needs fewer than one with a scale of colours.
    """
    from PIL import Image

    if not alt.strip():
        raise ValueError("a figure needs a text that says what it shows")
    raw, small = BytesIO(), BytesIO()
    _tame_texts(figure)
    with warnings.catch_warnings():
        # A sign that the font lacks is drawn as a box; a name too long for the page is drawn, too.
        warnings.filterwarnings("ignore", "(Glyph|constrained_layout not applied)")
        # Hardly compressed, because it is read again at once.
        figure.savefig(raw, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    plt.close(figure)
    ours = figure in _drawn
    _drawn.discard(figure)
    if ours and not _drawing():
        dict.update(plt.rcParams, _settings)  # as they are: some may not be set without a warning
    image = Image.open(raw).convert("RGB")
    image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        small, format="PNG", optimize=True
    )
    size = {"width": image.width // 2, "height": image.height // 2}
    display(
        {"image/png": small.getvalue(), "text/plain": alt},
        raw=True,
        metadata={"image/png": {"alt": alt, **size}},
    )


def _tame_texts(figure: Figure) -> None:
    """Show the texts of a table as they are, but for the end of those that are too long.

    By the project's style no text is mathematics, since a name or a value may hold two dollars.
    Only the powers of ten that Matplotlib itself writes along an axis are.
    """
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):
                ticks = [*axis.get_major_ticks(MOST_TICKS), *axis.get_minor_ticks(MOST_TICKS)]
                for tick in ticks:
                    tick.label1.set_parse_math(True)
            elif isinstance(axis.get_major_locator(), FixedLocator | StrCategoryLocator):
                places = axis.get_majorticklocs()
                names = [*map(str, axis.get_major_formatter().format_ticks(places))]
                if max(map(len, names), default=0) > MOST_LETTERS:
                    axis.set_ticks(places, [short(name) for name in names])
            axis.label.set_text(short(axis.label.get_text(), 2 * MOST_LETTERS))
        for text in (ax.title, left_title(ax)):
            text.set_text(short(text.get_text(), 2 * MOST_LETTERS))
    for legend in figure.findobj(Legend):
        for text in legend.get_texts():
            text.set_text(short(text.get_text()))


def short(text: str, most: int = MOST_LETTERS) -> str:
    """A text, cut off where it is too long for a figure or a cell."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def some(n: int, most: int = MOST_POINTS) -> np.ndarray:
    """The positions of at most so many of ``n`` rows, spread evenly, to be drawn as points."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)


class _Table:
    """A table for people, as HTML and as text."""

    def __init__(self, frame: pd.DataFrame, caption: str):
        self._frame, self._caption = frame, caption

    def _repr_html_(self) -> str:
        from html import escape

        html = self._frame.to_html(border=0, index_names=False)
        start = html.index(">") + 1  # the end of the opening tag
        return f"<table><caption>{escape(self._caption)}</caption>{html[start:]}"

    def __repr__(self) -> str:
        return f"{self._caption}\n{self._frame.to_string(index_names=False)}"


Shown = _Table | Markdown  # what stands under a cell


def table(
    frame: pd.DataFrame, caption: str, formats: Mapping[str, str] | str | None = None
) -> Shown:
    """A table with a caption, its numbers shown to the digits they deserve.

    Parameters
    ----------
    frame : DataFrame
    caption : str
        What the table shows.
    formats : mapping from column to format, or one format for all numbers, optional
        For instance ``{"rmse": ".4f", "rows": ",d"}``. Without one, whole numbers are shown
        whole and others to four significant digits.
    """
    if frame.empty:
        return Markdown(f"*{caption}: none.*")
    shown = frame.copy().astype(object)
    # By position: a column of the table may be called like one that stands beside it.
    for i, (column, values) in enumerate(frame.items()):
        given = formats if isinstance(formats, str) else (formats or {}).get(column)
        write = str
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            whole = pd.api.types.is_integer_dtype(values)
            write = (
                significant if not given and not whole else lambda v, f=given or ",d": number(v, f)
            )
        shown.isetitem(i, ["" if pd.isna(v) else write(v) for v in values.tolist()])
    return _Table(shown, caption)


def say(text: str) -> None:
    """Show a sentence whose numbers come from variables.

    Markdown without formulas: a dollar is a dollar, whichever name or value brought it along.
    What comes from a table stands in `quoted`.
    """
    # What stands between backticks is shown as it is, and would show the escape, too.
    display(Markdown(re.sub(r"(`+).*?\1|\$", lambda m: m[0] if m[1] else r"\$", text, flags=re.S)))


def quoted(text: object) -> str:
    """A name or a value of a table, for Markdown: as it is, whatever signs it holds."""
    plain = " ".join(short(str(text)).split()) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{space}{plain}{space}{fence}"
