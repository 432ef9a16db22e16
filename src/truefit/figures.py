"""One look for every figure and table, and text for those who cannot see them.

Colours are those of Okabe and Ito, which people with any common colour blindness can tell apart.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from truefit.digits import number, significant

BLUE, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#56B4E9", "#8A8A8A"
STYLE = Path(__file__).with_name("figures.mplstyle")
DPI = 200  # twice what the page shows, so that a sharp screen gets sharp lines
COLOURS = 128  # of the palette a figure is reduced to, which makes its file three times smaller


def new(width: float = 7.2, height: float = 3.6, **subplots: Any):
    """``plt.subplots`` in the project's style; sizes in inches, at 100 pixels to the inch."""
    plt.rcdefaults()
    plt.style.use(STYLE)
    return plt.subplots(figsize=(width, height), **subplots)


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
    figure.savefig(raw, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
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


def table(
    frame: pd.DataFrame, caption: str, formats: Mapping[str, str] | str | None = None
) -> "_Table | Markdown":
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
    for column in frame:
        given = formats if isinstance(formats, str) else (formats or {}).get(column)
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        if numeric and not pd.api.types.is_bool_dtype(frame[column]):
            whole = pd.api.types.is_integer_dtype(frame[column])
            write = (
                significant if not given and not whole else lambda v, f=given or ",d": number(v, f)
            )
            shown[column] = ["" if pd.isna(v) else write(v) for v in frame[column].tolist()]
        else:
            shown[column] = ["" if pd.isna(v) else str(v) for v in frame[column].tolist()]
    return _Table(shown, caption)


def say(text: str) -> None:
    """Show a sentence whose numbers come from variables. Markdown; a dollar is written \\\\$."""
    display(Markdown(text))
