"""What a reader of a report's page would notice."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from truefit.notebook.render import RenderError, markdown, page, render

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def md(text, *tags):
    return new_markdown_cell(text, metadata={"tags": list(tags)})


def code(source, *outputs, tags=()):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def printed(text):
    return new_output("stream", name="stdout", text=text)


def shown(data, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


def html_of(*cells, **options):
    notebook = new_notebook(cells=[md("# A title"), *cells])
    return render(notebook, title_context="House sales", **options)


def main_of(*cells, **options):
    return re.search("<main.*</main>", html_of(*cells, **options), re.DOTALL)[0]


@pytest.mark.parametrize(
    ("formula", "mathml"),
    [
        (r"$\frac{1}{n}$", "<mfrac>"),
        (r"$$\sum_{i=1}^{n} x_i$$", 'display="block"'),
        (r"$\sqrt{\hat y}$", "<msqrt>"),
        (r"$\mathbb{R}^{p+1}$", "ℝ"),
        (r"$\operatorname*{arg\,min}_\beta L$", "min"),
        (
            r"$$\begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{otherwise} \end{cases}$$",
            "<mtable",
        ),
        ("\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}", "<mtable"),
        ("\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}", "<mtable"),
        (r"$\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}$", "<mtable"),
        (r"$\underbrace{\sigma^2}_{\text{noise}}$", "<munder>"),
        (r"$\lVert \boldsymbol\beta \rVert_2^2$", "𝜷"),
        (r"$P(A \mid B) \le \mathcal{L}, \quad a < b$", "&lt;"),
        (r"$f'(x) = x_1 * y * z_2$", "′"),
    ],
)
def test_a_formula_becomes_mathml(formula, mathml):
    page_of_formula = markdown(f"Before {formula} after.")
    assert "<math" in page_of_formula
    assert mathml in page_of_formula
    assert not re.search(r"[$\\]|&amp;=", page_of_formula)


def test_no_line_begins_with_the_sign_after_a_formula():
    text = markdown("Here ($x$, $y$), *$z$*; $p$-values & $q$.")
    ties = re.findall(r'<span class="tie">(.*?)<math>.*?</math>(.*?)</span>', text)
    assert ties == [("(", ","), ("", "),"), ("", "-"), ("", ".")]
    assert re.sub("<[^>]*>", "", text) == "Here (x, y), z; p-values &amp; q."


def test_a_long_formula_in_a_line_may_break():
    text = markdown("So $" + " + ".join("abcdefghijklmno") + " = 1$, done.")
    assert text.count("<math") == text.count("<wbr/>") + 1 > 10
    assert text.endswith('<span class="tie"><math><mrow><mn>1</mn></mrow></math>,</span> done.</p>')
    assert re.sub("<[^>]*>", "", text) == "So " + "+".join("abcdefghijklmno") + "=1, done."


def test_amounts_in_dollars_are_no_formulas():
    text = markdown(r"From \$5 to \$10, about $52 to $60 a foot; $x$ costs **\$1,000**.")
    assert text.count("<math") == 1
    for amount in ("$5 to $10", "$52 to $60", "<strong>$1,000</strong>"):
        assert amount in text


def test_a_formula_that_cannot_be_read_is_quoted_with_its_cell():
    with pytest.raises(RenderError, match=r"^cell 2 of the notebook: .*\\frac\{a\}") as caught:
        html_of(md("Here:\n\n$$\n\\frac{a}\n$$"))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_figure_has_its_text_and_size_or_fails():
    figure = {"image/png": PIXEL, "text/plain": "<Figure>"}
    about = {"alt": 'Price "rises" with area', "width": 720, "height": 360}
    html = html_of(code("show()", shown(figure, **{"image/png": about})))
    assert 'alt="Price &quot;rises&quot; with area" width="720" height="360"' in html
    assert "Figure&gt;" not in html
    with pytest.raises(RenderError, match=r"cell 2 .* figure has no text"):
        html_of(code("show()", shown(figure)))


def test_nothing_comes_from_elsewhere():
    styled = (
        f"<style>@import url(//x.org)</style><img src='data:image/png;base64,{PIXEL}' alt='dot'>"
        "<script src='//x.org/a.js'></script>"
    )
    html = html_of(
        md("[Efron](https://example.org/a), [data](03_training.ipynb#Data), [up](../x.csv), $x$"),
        md("https://example.org/b"),
        code("df", shown({"text/html": styled})),
        links=[("Data", ""), ("Training", "03_training.html")],
        source="01_data_prep.ipynb",
    )
    assert not re.search(r"https?:|//x\.org|@import|<script src", html)

    found: set[str] = set()

    class References(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.update({value for key, value in attrs if key in {"href", "src", "srcset"}})

    References().feed(html)
    assert {ref for ref in found if not ref.startswith(("data:", "#"))} == {
        "../index.html",
        "01_data_prep.ipynb",
        "03_training.html",
        "03_training.html#Data",
    }
    assert "Efron (example.org/a)" in html
    assert "default-src 'none'" in html
    with pytest.raises(RenderError, match="attach it"):
        html_of(md("![a dot](dot.png)"))


def test_solutions_are_folded_together_and_code_is_folded():
    main = main_of(
        md("## Exercise 02.1"),
        md("By hand: $1$", "solution"),
        code("x = 1", printed("one"), tags=["solution"]),
        md("## Exercise 02.2"),
        code("y = 2", printed("two")),
        md("Done", "solution"),
    )
    first, second = re.findall(r'<details class="solution">.*?</details>', main, re.DOTALL)
    assert "By hand" in first and "one" in first and "Done" in second
    assert re.search(
        r'<details class="code">((?!</details>).)*y = .*?</details>\s*<pre',
        main,
        re.DOTALL,
    )
    assert "two" not in re.search(r'<details class="code">.*?</details>', main, re.DOTALL)[0]


def test_the_parameters_of_the_run_replace_the_defaults():
    cells = [code("case = 'default'", tags=["parameters"])]
    assert "default" in main_of(*cells)
    cells += [
        code("case = 'homes'", tags=["injected-parameters"]),
        code("hide", tags=["remove-cell"]),
    ]
    main = main_of(*cells)
    assert "Parameters of this run" in main and "homes" in main
    assert "default" not in main and "hide" not in main


def test_what_a_program_wrote_is_shown_as_text():
    main = main_of(
        code("a", printed("\x1b[31m<b>&</b>\x1b[0m")),
        code("b", new_output("execute_result", data={"text/plain": "<object>"})),
        code(
            "c",
            new_output("error", ename="InputError", evalue="no column <x>", traceback=["t"]),
        ),
        code("'<i>'"),
    )
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in main and "\x1b" not in main
    assert "&lt;object&gt;" in main
    assert "InputError:</strong> no column &lt;x&gt;" in main
    assert not re.search("<(b|i|object|x)>", main)


def test_a_table_scrolls_in_its_own_box_and_aligns_numbers():
    table = (
        '<table border="1" class="dataframe"><caption>Errors</caption><thead><tr><th></th>'
        "<th>RMSE, $</th><th>model</th></tr></thead><tbody><tr><th>0</th><td>24,310</td>"
        "<td>ridge</td></tr></tbody></table>"
    )
    main = main_of(code("df", shown({"text/html": table, "text/plain": "plain"})))
    assert '<div aria-label="Errors" class="table" role="region" tabindex="0">' in main
    assert '<th class="n" scope="col">RMSE, $</th>' in main
    assert '<th scope="row">0</th><td class="n">24,310</td><td>ridge</td>' in main
    assert "plain" not in main
    assert 'class="table"' in main_of(md("| a | b |\n|---|---|\n| 1 | 2 |"))


def test_headings_of_the_same_text_have_their_own_ids():
    html = html_of(md("## Data\n\n### Data"), md("# Data"), md("## The $R^2$ <&"))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert {"Data", "Data-2", "Data-3"} < set(ids)
    anchors = set(re.findall(r'href="#([^"]+)"', html))
    assert anchors <= set(ids) and "Data-2" in anchors
    assert html.count("<h1") == 1


def test_a_page_without_a_case_leads_home_beside_it_and_to_no_page_of_a_case():
    cells = [md("See [01](01_data_prep.ipynb#Data), [maths](02_regression_maths.ipynb#Data).")]
    alone = main_of(*cells, home="index.html", links=[("02 maths", "")])
    assert "<p>See 01, maths.</p>" in alone
    links = [("01 data", ""), ("02 maths", "../02_regression_maths.html")]
    assert 'href="../02_regression_maths.html#Data"' in main_of(*cells, links=links)


def test_links_of_a_text_from_another_page_become_text():
    text = "See [`a`](#a), [*b*](02_maths.ipynb) and $x$."
    assert "<a" in markdown(text)
    told = markdown(text, links=False)
    assert "<a" not in told and "<code>a</code>" in told and "<math>" in told


def test_the_title_is_the_first_heading_and_what_it_was_run_on():
    notebook = new_notebook(cells=[md("# From *table* to $X$ & more")])
    html = render(notebook, title_context="House sales", links=[("Data", ""), ("Maths", "m.html")])
    assert "<title>From table to X &amp; more · House sales</title>" in html
    assert '<span aria-current="page">Data</span>' in html and 'href="m.html"' in html
    with pytest.raises(RenderError, match="no heading of the first level"):
        render(new_notebook(cells=[md("text")]), title_context="House sales")


def test_the_same_notebook_gives_the_same_bytes():
    def cells():  # with new random ids
        return [
            md("## A\n\n$x^2$"),
            code("1", printed("1")),
            md("| a |\n|---|\n| 1 |", "solution"),
        ]

    assert html_of(*cells()) == html_of(*cells())


def test_a_page_is_small():
    assert len(html_of(md("A line.")).encode()) < 105_000
    front = page(title="A & B", body=markdown("# A & B\n\n[page](homes/01_data_prep.ipynb)"))
    assert "<title>A &amp; B</title>" in front
    assert '<a href="homes/01_data_prep.html">' in front


def test_importing_it_loads_no_converter():
    names = {"nbconvert", "quickjs", "jinja2", "bs4"}
    script = f"import sys, truefit.notebook.render; print(sorted({names} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
