"""The front page: for each case the headline, the verdict of the gate, and the way to its pages."""

import json
from html import escape

from truefit import params, project
from truefit.digits import to_spread
from truefit.notebook import STEPS, notebook_of
from truefit.notebook.render import markdown, page
from truefit.project import InputError

TITLE = "From a table to a model in production"
ABOUT = """
Tables of data on their way from a first look to a model that can be used. Every figure on these
pages was computed by the notebook that the page was made from; each figure of quality comes with
an interval, on rows that nothing was fitted on.
"""
TITLES = {
    "data_prep": "the table, what is wrong with it, and the split",
    "training": "the candidates, compared on the same folds",
    "evaluation": "the winner on the test rows, and the gate",
    "export": "the bundle, and the proof that it answers the same",
}


def write_index() -> None:
    """Write ``reports/index.html`` from the verdicts under ``reports/gate``.

    Raises
    ------
    InputError
        If a case has no verdict yet.
    """
    settings = params.load()
    cards = []
    for name, case in settings.cases.items():
        file = project.path("reports", "gate", f"{name}.json")
        if not file.is_file():
            raise InputError(f"{name} has no verdict in reports/gate yet; run its evaluation first")
        verdict = json.loads(file.read_text(encoding="utf-8"))
        cards.append(_card(name, case, verdict))
    body = markdown(f"# {TITLE}\n{ABOUT}") + f'<div class="cards">{"".join(cards)}</div>'
    project.write_text(page(title=TITLE, body=body), "reports", "index.html")


def _card(name: str, case: params.Case, verdict: dict) -> str:
    found = verdict["headline"]
    spread = found["high"] - found["low"]
    value, low, high = (to_spread(found[end], spread) for end in ("value", "low", "high"))
    badge = ("pass", "Gate passed") if verdict["passed"] else ("fail", "Gate failed")
    reasons = "".join(
        f"<li>{escape(c['check'])}: {escape(c['reason'])}</li>"
        for c in verdict["checks"]
        if not c["passed"]
    )
    links = "".join(_link(name, step, verdict["passed"]) for step in STEPS)
    return f"""
<section class="card" aria-labelledby="{name}">
<h2 id="{name}">{escape(case.title or name)}</h2>
<p>{escape(case.about)}</p>
<p class="headline">{value} <small>{low} to {high}</small></p>
<p>{found["label"]} of <code>{escape(case.target)}</code> on {verdict["rows"]:,} test rows,
with its {found["confidence"]:.0%} interval, by <code>{found["model"]}</code>{_plainly(found)}</p>
<p><span class="badge {badge[0]}">{badge[1]}</span></p>
{f"<ul>{reasons}</ul>" if reasons else ""}
<ul>{links}</ul>
</section>"""


def _plainly(found: dict) -> str:
    """The headline in plain words."""
    if found["metric"] == "rmse_log":
        return (
            f". A miss is about {found['value'] * 100:.0f} % of the value, as a root mean square."
        )
    if found["metric"] == "roc_auc":
        return (
            f". Of a positive and a negative row, the model ranks them rightly "
            f"{found['value'] * 100:.0f} times in 100; by chance it would be 50."
        )
    return "."


def _link(name: str, step: str, passed: bool) -> str:
    book = notebook_of(step)
    label = f"{book[:2]} {step.replace('_', ' ')}"
    if step == "export" and not passed:
        return f"<li>{label}: not exported, because the gate failed</li>"
    return f'<li><a href="{name}/{book}.html">{label}</a>: {TITLES[step]}</li>'
