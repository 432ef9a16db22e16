"""An executed notebook as one page of HTML that needs nothing else: no network, no other file.

Markdown is parsed by nbconvert, so that a page and JupyterLab agree on what is a formula.
Formulas become MathML here, when the page is made: Temml, a program in JavaScript, runs inside
QuickJS. The page therefore carries no script for its maths, and reads the same in ten years.
"""

import html
import posixpath
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truefit.library_internals import import_jsonschema
from truefit.notebook.claims import Claim, claim_of, groups
from truefit.project import TruefitError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from nbformat import NotebookNode

ASSETS = Path(__file__).with_name("assets")
FONTS = (("400", "normal"), ("400", "italic"), ("600", "normal"))
# The kinds of token that the style sheet colours. Pygments marks up every name, dot and blank,
# which would make the code of a page three times as long and look no different.
COLOURED = re.compile(r"^(c|k|s|m|nb$|nf$|nc$|nd$|fm$|ow$|bp$)")
NUMBER = re.compile(
    r"^(?=.*\d)[-+−–±×<>≤≥≈~\d\s.,:()\[\]$€£%]+(e[-+]?\d+)?\s*[a-zµ]{0,3}$",
    re.IGNORECASE,
)
UNBROKEN = 16  # signs of a formula that fit into a line of text on a phone
LONG = 30  # rows of a table that is shown whole; a longer one scrolls in its box
BLANK = frozenset({"", "nan", "NaN", "NaT", "<NA>", "None", "–", "—", "-", "…", "..."})


class RenderError(TruefitError, ValueError):
    """A notebook that would make a page with a fault in it."""


def render(
    notebook: "NotebookNode",
    *,
    title_context: str,
    home: str | None = "../index.html",
    source: str | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """The page of an executed notebook.

    Cells tagged ``remove-cell`` are left out; those tagged ``solution`` are folded away, each run
    of them in one fold; those tagged ``claim`` stand in a box, each claim in its own; of the cells
    tagged ``parameters`` and ``injected-parameters`` only the injected one is shown. A link in the
    prose leads on if it names a heading of this page or one of the pages in `links`, as a notebook
    or as a page; any other becomes text.

    Parameters
    ----------
    notebook : NotebookNode
        Executed, in nbformat 4.
    title_context : str
        What the notebook is about, such as "House sales in Ames". Stands above the title.
    home : str, optional
        Relative address of the front page; None if there is none beside the page.
    source : str, optional
        Relative address of the executed notebook itself.
    links : sequence of (str, str)
        Label and relative address of each page beside this one, in reading order; the address of
        this page is empty.

    Returns
    -------
    str
        The whole page. The same notebook gives the same bytes.

    Raises
    ------
    RenderError
        If the notebook has no heading of the first level, a formula cannot be read, or a figure
        has no text that says what it shows. The message names the cell, counted from 1.
    ClaimError
        If a claim lacks its number or what is true.
    """
    cells = list(enumerate(notebook.cells, start=1))
    injected = any("injected-parameters" in _tags(cell) for _, cell in cells)
    dropped = {"remove-cell", "parameters"} if injected else {"remove-cell"}
    cells = [
        (number, cell)
        for number, cell in cells
        if cell.source.strip() and not dropped & _tags(cell) and cell.cell_type != "raw"
    ]
    targets = {Path(href).stem: href for _, href in links if href}
    if home:  # and the other page that is about no notebook lies beside it
        scorecard = posixpath.join(posixpath.dirname(home), "scorecard.html")
        targets |= {Path(home).stem: home, "scorecard": scorecard}
    writer = _Writer(targets)
    parts: list[str] = []
    for kind, group in groups(cells):
        # In a claim the code is the matter itself, but for the last cell, which says what is true.
        last = group[-1][0] if kind == "claim" else None
        inner = "\n".join(
            _cell(writer, number, cell, folded=not kind or number == last) for number, cell in group
        )
        if kind == "claim":
            inner = _claim(claim_of(group), inner)
        elif kind == "solution":
            inner = (
                '<details class="solution"><summary>Solution</summary>\n'
                f'<div class="inside">\n{inner}\n</div></details>'
            )
        parts.append(inner)
    if writer.title is None:
        raise RenderError("the notebook has no heading of the first level ('# …') to be its title")
    tools = '<button type="button" id="code-button" hidden>Show all code</button>'
    if source:
        tools += f'\n<a href="{html.escape(source)}">The notebook of this page</a>'
    body = "\n".join(parts).replace(
        _TITLE,
        f'<header class="title">\n<p class="kicker">{html.escape(title_context)}</p>\n'
        f'<h1 id="{html.escape(writer.title_id)}">{writer.title}</h1>\n'
        f'<p class="tools">{tools}</p>\n</header>',
        1,
    )
    return page(
        title=f"{_text(writer.title)} · {title_context}",
        body=body,
        toc=writer.toc,
        home=home,
        nav=links,
    )


def page(
    *,
    title: str,
    body: str,
    toc: Sequence[tuple[int, str, str]] = (),
    home: str | None = None,
    nav: Sequence[tuple[str, str]] = (),
) -> str:
    """The shell that every page of the reports shares.

    Parameters
    ----------
    title : str
        Plain text, for the browser's tab.
    body : str
        HTML, with one ``<h1>``.
    toc : sequence of (int, str, str)
        Level (2 or 3), id and HTML of each heading in the table of contents.
    home : str, optional
        Relative address of the front page; None on the front page itself.
    nav : sequence of (str, str)
        Label and relative address of sibling pages; an empty address marks this page.

    Notes
    -----
    The style sheet has classes for a front page: ``.cards`` around ``.card``; ``.headline`` for
    a number with a ``<small>`` beside it; ``.badge`` with ``.pass``, ``.warn``, ``.fail`` or
    ``.none``, which adds a sign to the word in it, so that no meaning hangs on a colour alone.
    """
    script = _asset("page.js")
    return _template().render(
        title=title,
        body=body,
        toc=toc,
        home=home,
        nav=nav,
        style=_style(),
        script=script,
        # Only this very script may run: markup that an output brought along cannot.
        script_hash="sha256-" + b64encode(sha256(script.encode()).digest()).decode(),
    )


def markdown(text: str, *, links: bool = True) -> str:
    """A piece of markdown with formulas, as HTML.

    Parameters
    ----------
    text : str
    links : bool
        False for a text taken from another page, where its links would lead astray: they become
        text.

    Raises
    ------
    RenderError
        If a formula cannot be read.
    """
    found = _Writer(None).markdown(text)
    return found if links else _without_links(found)


# A place for the title, which is known only when the whole notebook has been read.
_TITLE = "<h1>\0</h1>"


def _tags(cell: "NotebookNode") -> set[str]:
    return set(cell.metadata.get("tags", ()))


def _text(markup: str) -> str:
    """The plain text of a piece of HTML."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", markup))).strip()


def _without_links(markup: str) -> str:
    return re.sub(r"</?a\b[^>]*>", "", markup)


def _claim(claim: Claim, inner: str) -> str:
    """The box of a claim, named by its label and its number."""
    name = claim.anchor
    inner = inner.replace("<strong>", f'<strong id="{name}-number">', 1)
    return (
        f'<section class="claim" id="{name}" aria-labelledby="{name}-label {name}-number">\n'
        f'<p class="label" id="{name}-label">Claim to check</p>\n{inner}\n</section>'
    )


def _cell(writer: "_Writer", number: int, cell: "NotebookNode", *, folded: bool) -> str:
    """One cell as HTML; code that is not `folded` is shown at once."""
    try:
        if cell.cell_type == "markdown":
            return writer.markdown(cell.source, cell.get("attachments", {}), contents=folded)
        code = f"<pre>{_highlight(cell.source)}</pre>"
        if folded:
            parameters = {"parameters", "injected-parameters"} & _tags(cell)
            summary = "Parameters of this run" if parameters else "Code"
            code = f'<details class="code"><summary>{summary}</summary>{code}</details>'
        else:
            code = f'<div class="code">{code}</div>'
        return "\n".join([code, *_outputs(writer, cell.outputs)])
    except RenderError as error:
        raise RenderError(f"cell {number} of the notebook: {error}") from None


def _outputs(writer: "_Writer", outputs: Sequence["NotebookNode"]) -> Iterator[str]:
    """Each output in the richest of its forms that a page can show."""
    for output in outputs:
        if output.output_type == "stream":
            yield f'<pre class="output">{_plain(output.text)}</pre>'
        elif output.output_type == "error":
            yield (
                '<div class="error" role="note"><strong>'
                f"{_plain(output.ename)}:</strong> {_plain(output.evalue)}</div>"
            )
        elif "image/png" in output.data:
            yield _figure(output)
        elif "text/html" in output.data:
            yield f'<div class="output">{writer.tidy(output.data["text/html"])}</div>'
        elif "text/markdown" in output.data:
            yield writer.markdown(output.data["text/markdown"])
        elif "text/plain" in output.data:
            yield f'<pre class="output">{_plain(output.data["text/plain"])}</pre>'


def _plain(text: str) -> str:
    """Text of a program, without the codes that colour a terminal."""
    import_jsonschema()
    from nbconvert.filters.ansi import strip_ansi

    return html.escape(strip_ansi(text).rstrip("\n"), quote=False)


def _figure(output: "NotebookNode") -> str:
    about = output.metadata.get("image/png", {})
    alt = (about.get("alt") or output.metadata.get("alt") or "").strip()
    if not alt:
        raise RenderError(
            "a figure has no text that says what it shows; give it as 'alt' in the output's "
            "metadata"
        )
    size = "".join(
        f' {side}="{round(about[side])}"' for side in ("width", "height") if side in about
    )
    data = re.sub(r"\s", "", output.data["image/png"])
    return (
        f'<figure><img src="data:image/png;base64,{html.escape(data)}" '
        f'alt="{html.escape(alt)}"{size}></figure>'
    )


def _highlight(code: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    marked = highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip("\n")
    return re.sub(
        r'<span class="(\w+)">([^<]*)</span>',
        lambda match: match[0] if COLOURED.match(match[1]) else match[2],
        marked,
    )


class _Writer:
    """Turns the markdown and the HTML of one page into the page's own HTML.

    Parameters
    ----------
    targets : mapping of str to str, optional
        The pages that links may lead to: file name without suffix, and address. None for a
        fragment, which may hold any relative address and headings of any level.
    """

    def __init__(self, targets: Mapping[str, str] | None):
        self.targets = targets
        self.toc: list[tuple[int, str, str]] = []
        self.title: str | None = None
        self.title_id = ""
        self._ids = {"main", "code-button"}  # those of the shell
        self._n_tables = 0

    def markdown(
        self,
        text: str,
        attachments: Mapping[str, Any] | None = None,
        *,
        contents: bool = False,
    ) -> str:
        """Markdown as HTML; its headings go into the table of `contents` if that is asked for."""
        return self.tidy(_markdown(text, attachments or {}), contents=contents)

    def tidy(self, markup: str, *, contents: bool = False) -> str:
        """HTML that keeps to the page: its ids, links, tables and figures."""
        from bs4 import BeautifulSoup

        soup = BeautifulSoup(markup, "html.parser")
        for tag in soup(["style", "script", "link", "iframe", "object", "embed"]):
            tag.decompose()
        for tag in soup(True, style=True):
            if "math" not in {tag.name, *(parent.name for parent in tag.parents)}:
                self._restyle(tag)
        for tag in soup("math", display=False):
            _tie(soup, _break_up(soup, tag))
        for tag in soup("a"):
            self._link(tag)
        for tag in soup("img"):
            _check_image(tag)
        for tag in soup("table"):
            if not tag.find_parent("table"):
                self._table(soup, tag)
        for tag in soup("p"):
            # A displayed formula is a block, and a paragraph of nothing else is only in its way.
            if [child.get("class") for child in tag.find_all(True, recursive=False)] == [
                ["math"]
            ] and not "".join(tag.find_all(string=True, recursive=False)).strip():
                tag.name = "div"
        for tag in soup(re.compile("^h[1-6]$")):
            self._heading(tag, contents)
        return soup.decode(formatter="minimal").strip()

    @staticmethod
    def _restyle(tag: "Tag") -> None:
        # Of the styles that markdown and pandas write, only the alignment of a cell means
        # something.
        style = tag.attrs.pop("style")
        if tag.name in {"th", "td"} and (align := re.search(r"text-align:\s*(\w+)", style)):
            tag["class"] = {"right": "n", "center": "c"}.get(align[1], "l")

    def _link(self, tag: "Tag") -> None:
        href = str(tag.get("href", ""))
        if not href or href.startswith("#"):
            return
        external = re.match(r"^(?:https?:)?//(.+)$|^[a-z][a-z0-9+.-]*:", href, re.IGNORECASE)
        if not external:
            path, _, anchor = href.partition("#")
            if self.targets is None:
                tag["href"] = re.sub(r"\.ipynb(?=#|$)", ".html", href)
                return
            if target := self.targets.get(Path(path).stem):
                tag["href"] = target + (f"#{anchor}" if anchor else "")
                return
        elif external[1]:
            # A report stands alone, so an address elsewhere is printed rather than linked.
            address = external[1].rstrip("/")
            if address not in tag.get_text():
                tag.append(f" ({address})")
            else:
                tag.string = address
        tag.unwrap()

    def _heading(self, tag: "Tag", contents: bool) -> None:
        level = int(tag.name[1])
        first = level == 1 and self.title is None and contents
        if level == 1 and self.targets is not None and not first:
            level, tag.name = 2, "h2"  # a page has one title
        # As JupyterLab does it, so that a link to a heading works in both.
        wanted = re.sub(r"\s+", "-", tag.get_text().strip()) or "section"
        name, n = wanted, 1
        while name in self._ids:
            n += 1
            name = f"{wanted}-{n}"
        self._ids.add(name)
        tag["id"] = name
        inner = tag.decode_contents(formatter="minimal")
        if first:
            self.title, self.title_id = inner, name
            tag.attrs.clear()
            tag.string = "\0"
        elif contents and level in (2, 3):
            self.toc.append((level, name, _without_links(inner)))

    def _table(self, soup: "BeautifulSoup", table: "Tag") -> None:
        self._n_tables += 1
        table.attrs.clear()
        if (head := table.find("thead")) and not head.get_text().strip():
            head.decompose()  # markdown cannot write a table without one
        rows = [row.find_all(["th", "td"], recursive=False) for row in table("tr")]
        width = max((len(row) for row in rows), default=0)
        # Where cells span columns, each is taken for itself.
        simple = all(len(row) == width for row in rows) and not table(_spans)
        for row in rows:
            for cell in row:
                if cell.name == "th":
                    in_head = cell.find_parent("thead") is not None
                    cell["scope"] = "col" if in_head else "row"
        groups = zip(*rows, strict=True) if simple else ([cell] for row in rows for cell in row)
        for group in groups:
            values = [cell.get_text().strip() for cell in group if cell.name == "td"]
            told = [value for value in values if value not in BLANK]
            if told and all(NUMBER.match(value) for value in told):
                for cell in group:
                    cell.attrs.setdefault("class", "n")
        box = soup.new_tag("div")
        box["class"] = "table long" if len(rows) > LONG else "table"
        box["role"] = "region"
        box["tabindex"] = "0"
        caption = table.find("caption")
        box["aria-label"] = caption.get_text().strip() if caption else f"Table {self._n_tables}"
        table.wrap(box)


def _break_up(soup: "BeautifulSoup", formula: "Tag") -> "Tag":
    """Let a long formula in a line of text break after a relation, as browsers do not.

    Returns
    -------
    Tag
        The formula, or the last of the pieces that it now consists of.
    """
    pieces = formula.find_all("mrow", recursive=False)
    if len(pieces) < 2 or len(formula.get_text()) <= UNBROKEN:
        return formula
    for piece in pieces[:-1]:
        formula.insert_before(piece.wrap(soup.new_tag("math")).extract(), soup.new_tag("wbr"))
    return formula


def _tie(soup: "BeautifulSoup", formula: "Tag") -> None:
    """Keep a formula in a line of text on one line with the signs around it."""
    before, after = formula.previous_sibling, formula.next_sibling
    left = re.search(r"[(\[“‘]+$", before) if isinstance(before, str) else None
    right = re.match(r"[^\s\w(\[“‘]+", after) if isinstance(after, str) else None
    if not left and not right:
        return
    tie = formula.wrap(soup.new_tag("span"))
    tie["class"] = "tie"
    if left:
        tie.insert(0, left[0])
        before.replace_with(before[: left.start()])
    if right:
        tie.append(right[0])
        after.replace_with(after[right.end() :])


def _spans(tag: "Tag") -> bool:
    return tag.has_attr("colspan") or tag.has_attr("rowspan")


def _check_image(tag: "Tag") -> None:
    if not str(tag.get("src", "")).startswith("data:image/"):
        raise RenderError(
            f"the image '{tag.get('src', '')}' is a file of its own; attach it to the cell, so "
            "that the page can hold it"
        )
    if not str(tag.get("alt", "")).strip():
        raise RenderError("an image has no text that says what it shows; write ![text](…)")


def _markdown(text: str, attachments: Mapping[str, Any]) -> str:
    renderer, parser = _markdown_classes()
    return parser(
        renderer=renderer(escape=False, exclude_anchor_links=True, attachments=attachments)
    ).render(text)


@cache
def _markdown_classes() -> tuple[type, Callable[..., Any]]:
    """nbconvert's renderer, with formulas set by `_formula`, and its parser."""
    import_jsonschema()
    from nbconvert.filters.markdown_mistune import (
        IPythonRenderer,
        MarkdownWithMath,
        MathInlineParser,
    )

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return _formula(body, display=False)

        def block_math(self, body: str) -> str:
            return _formula(body, display=True)

        def latex_environment(self, name: str, body: str) -> str:
            # Equations are not numbered, as they are not in JupyterLab.
            if name in {"align", "alignat", "equation", "gather"}:
                name += "*"
            return _formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

    class InlineParser(MathInlineParser):
        # "from $5 to $6" holds no formula: a dollar sign that closes one follows no blank and
        # comes before no digit, unless the one that opens it has a blank too, as in "$ x $".
        SPECIFICATION = MathInlineParser.SPECIFICATION | {
            "inline_math_tex": r"(?s:(?<![$\\])\$(?P<math_inline_tex>\s(?:[^$\\]|\\.)+|"
            r"(?:[^\s$\\]|\\.)(?:(?:[^$\\]|\\.)*(?:[^\s$\\]|\\.))?)\$(?![\d$]))"
        }

    def parser(renderer: IPythonRenderer) -> MarkdownWithMath:
        return MarkdownWithMath(renderer=renderer, inline=InlineParser(hard_wrap=False))

    return Renderer, parser


def _formula(tex: str, *, display: bool) -> str:
    """A formula in LaTeX as MathML, in a box of its own if it is displayed."""
    import quickjs

    try:
        mathml = _temml()(tex.strip(), display)
    except quickjs.JSException as error:
        # Temml says what is wrong, then repeats the formula with marks in it.
        reason = re.sub(r"^ParseError:\s*", "", str(error).split("\n")[0])
        reason = re.split(r" at (?:position \d+|end of input)", reason)[0].rstrip(" .:")
        formula = " ".join(tex.split())
        raise RenderError(f"the formula “{formula}” cannot be read: {reason}") from None
    return f'<span class="math">{mathml}</span>' if display else mathml


@cache
def _temml() -> Callable[[str, bool], str]:
    import quickjs

    context = quickjs.Context()
    context.eval(_asset("temml.min.js"))
    # Temml groups the parts of a formula in a line of text, so that it may be broken between them.
    # One on its own scrolls instead.
    return context.eval(
        "(tex, displayMode) => temml.renderToString("
        "tex, {displayMode, throwOnError: true, wrap: displayMode ? 'none' : 'tex'})"
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


@cache
def _style() -> str:
    fonts = ""
    for weight, style in FONTS:
        data = (ASSETS / f"source-serif-4-latin-{weight}-{style}.woff2").read_bytes()
        fonts += (
            f"@font-face{{font-family:'Source Serif 4';font-weight:{weight};font-style:{style};"
            f"src:url(data:font/woff2;base64,{b64encode(data).decode()}) format('woff2')}}\n"
        )
    css = re.sub(r"/\*.*?\*/", "", _asset("page.css"), flags=re.DOTALL)
    return fonts + re.sub(r"\s*\n\s*", "\n", css).strip()


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html.jinja"))
