"""Figures and tables look the same each time, and speak to those who cannot see them."""

import re
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image
from traitlets.config import Config

from truefit import figures


def draw(scale=1.0):
    fig, ax = figures.new(height=2)
    ax.plot(np.linspace(0, scale, 20), np.linspace(0, 1, 20) ** 2, label="a")
    ax.set(xlabel="x, metres", title="A title")
    ax.legend()
    return fig


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        yield InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        InteractiveShell.clear_instance()


@pytest.fixture
def shown(shell):
    """What reaches the notebook, one output for each figure that is shown."""
    with capture_output() as captured:
        yield captured


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_figure_without_a_text_is_refused(alt, shown):
    with pytest.raises(ValueError, match="text that says what it shows"):
        figures.show(draw(), alt)
    assert not shown.outputs


def test_the_callers_settings_are_back_when_the_last_figure_is_shown(shown):
    plt.close("all")
    with plt.rc_context({"lines.linewidth": 7.5, "axes.grid": False}):
        before = dict(plt.rcParams)
        first, second = draw(), draw()
        figures.show(first, "A line.")
        assert plt.rcParams["axes.grid"]  # the other is still drawn
        figures.show(second, "A line.")
        assert dict(plt.rcParams) == before
        assert shown.outputs[0].data == shown.outputs[1].data


def test_a_figure_is_a_picture_and_its_text(shown):
    figures.show(draw(), "A line that rises.")
    [output] = shown.outputs
    data, said = output.data, output.metadata["image/png"]
    assert set(data) == {"image/png", "text/plain"} and data["text/plain"] == "A line that rises."
    picture = Image.open(BytesIO(data["image/png"]))
    # 7.2 by 2 inches, at 100 pixels to the inch on the page and twice that in the file.
    assert (said["alt"], said["width"], said["height"]) == ("A line that rises.", 720, 200)
    assert picture.size == (1440, 400)
    assert not picture.info.keys() & {"Software", "Creation Time", "date"}
    colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
    assert (255, 255, 255) in colours and len(colours) > 5


def test_the_same_figure_is_the_same_file(shown):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figures.show(draw(), "a")
    plt.rcParams["axes.linewidth"] = 5  # a notebook's own settings do not reach the next figure
    figures.show(draw(), "a")
    figures.show(draw(scale=2), "a")
    first, second, other = (output.data["image/png"] for output in shown.outputs)
    assert first == second != other
    assert plt.get_fignums() == before


def cells(table):
    return re.findall(r"<td>(.*?)</td>", table._repr_html_())


def test_numbers_are_shown_to_the_digits_they_deserve():
    frame = pd.DataFrame(
        {
            "whole": [-1234567, 0, 12],
            "share": [-0.00001, 0.5, np.nan],
            "text": ["a", None, "c"],
            "yes": [True, False, True],
        }
    )
    assert cells(figures.table(frame, "c", {"share": ".2f"})) == [
        "−1,234,567", "0.00", "a", "True", "0", "0.50", "", "False", "12", "", "c", "True",
    ]  # fmt: skip
    assert cells(figures.table(frame[["whole", "share"]], "c", ".1f"))[:2] == ["−1234567.0", "0.0"]
    assert cells(figures.table(pd.DataFrame({"x": [0.123456789]}), "c"))[0].startswith("0.123")
    counts = pd.DataFrame({"n": pd.array([1000, None], dtype="Int64")})
    assert cells(figures.table(counts, "c")) == ["1,000", ""]


def test_a_table_is_html_and_text_and_shows_markup_as_it_is():
    frame = pd.DataFrame({"a<b": ["<script>x</script>", "long " * 40]}, index=["r&d", "two"])
    table = figures.table(frame, 'R² < 1 & "so on"')
    data, _ = DisplayFormatter().format(table)
    assert {"text/plain", "text/html"} <= set(data)
    html = data["text/html"]
    assert "<caption>R² &lt; 1 &amp; &quot;so on&quot;</caption>" in html
    assert "<script>" not in html and "&lt;script&gt;" in html and "a&lt;b" in html
    assert ("long " * 40).strip() in html  # no text is cut off
    assert data["text/plain"].startswith('R² < 1 & "so on"\n')
    assert "r&amp;d" in html and "r&d" in data["text/plain"]


def test_a_table_leaves_the_frame_as_it_was():
    frame = pd.DataFrame({"x": [1.5, np.nan]})
    before = frame.copy()
    figures.table(frame, "c")._repr_html_()
    pd.testing.assert_frame_equal(frame, before)


def test_ticks_may_be_named_by_numbers():
    fig, ax = figures.new()
    ax.plot([1, 2, 3])
    ax.set_xticks([0, 1, 2], [2, 5, 10])
    figures.show(fig, "A line.")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "5", "10"]
