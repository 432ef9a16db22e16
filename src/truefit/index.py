"""The front page: each case with its verdict and pages, what is for every case, and the claims."""

import json
from collections.abc import Iterable
from html import escape

from truefit import params, project, scorecard
from truefit.case import Case
from truefit.digits import to_spread
from truefit.notebook.render import markdown, page
from truefit.steps import Step, all_runs
from truefit.verdicts import Light

TITLE = "From a table to a model in production"
ABOUT = """
Tables of data on their way from a first look to a model that can be used. Every figure on these
pages was computed by the notebook that the page was made from; each figure of quality comes with
an interval, on rows that nothing was fitted on.
"""
# The light of the newest window of live rows.
LIGHTS = {
    Light.GREEN: ("pass", "Live rows as usual"),
    Light.AMBER: ("warn", "Live rows have changed"),
    Light.RED: ("fail", "Alarm in the live rows"),
    "none": ("", "Live rows not judged"),
}
CLAIMS = """
## Claims to check

Many texts say what stands in quotation marks here. Each of these claims was run as it is printed,
and failed. What is true stands below it; the number leads to the code and to what it did.
"""


def write_index() -> None:
    """Write ``reports/index.html`` from the verdicts and the claims of all runs.

    A case that has no verdict yet, or whose block is wrong, has a card that says so.
    """
    settings = params.load()
    cards = [_card(name, case) for name, case in settings.cases.items()]
    cards += [_box(name, name, _badges([("fail", "Block is wrong")]) + f"<p>{escape(fault)}</p>")
              for name, fault in settings.faults.items()]  # fmt: skip
    shared = "".join(_link(step, case) for step, case in all_runs([]))
    body = (
        markdown(f"# {TITLE}\n{ABOUT}")
        + f'<div class="cards">{"".join(cards)}</div>'
        + markdown("## For every case")
        + f"<ul>{shared}{_score()}</ul>"
        + _claims(settings.cases)
    )
    project.write_text(page(title=TITLE, body=body), "reports", "index.html")


def _card(name: str, case: Case) -> str:
    file = project.path("reports", "gate", f"{name}.json")
    about = f"<p>{escape(case.about)}</p>" if case.about else ""
    if not file.is_file():
        made = [(s, c) for s, c in all_runs([name]) if c and _has_page(s, c)]
        links = "".join(_link(s, c) for s, c in made)
        said = _badges([("", "Not evaluated yet")]) + (f"<ul>{links}</ul>" if links else "")
        return _box(name, case.title, about + said)
    verdict = json.loads(file.read_text(encoding="utf-8"))
    found, passed = verdict["headline"], verdict["passed"]
    spread = found["high"] - found["low"]
    value, low, high = (to_spread(found[end], spread) for end in ("value", "low", "high"))
    watched = _watched(name) if passed else None
    badges = [("pass", "Gate passed") if passed else ("fail", "Gate failed")]
    badges += [LIGHTS[watched["light"]]] if watched else []
    reasons = "".join(
        f"<li>{escape(c['check'])}: {escape(c['reason'])}</li>"
        for c in verdict["checks"]
        if not c["passed"]
    )
    links = "".join(_link(s, c, passed) for s, c in all_runs([name]) if c)
    content = f"""{about}
<p class="headline">{value} <small>{low} to {high}</small></p>
<p>{found["label"]} of <code>{escape(case.target)}</code> on {verdict["rows"]:,} test rows,
with its {found["confidence"]:.0%} interval, by <code>{found["model"]}</code>{_plainly(found)}</p>
{_badges(badges)}
{f"<ul>{reasons}</ul>" if reasons else ""}{_last_seen(watched, case)}
<ul>{links}</ul>"""
    return _box(name, case.title, content)


def _box(name: str, title: str, content: str) -> str:
    """The card of a case."""
    return f"""
<section class="card" aria-labelledby="{escape(name)}">
<h2 id="{escape(name)}">{escape(title or name)}</h2>
{content}
</section>"""


def _badges(badges: Iterable[tuple[str, str]]) -> str:
    each = (f'<span class="badge {kind}">{said}</span>' for kind, said in badges)
    return f"<p>{' '.join(each)}</p>"


def _has_page(step: Step, case: str) -> bool:
    return project.path("reports", step.page(case)).is_file()


def _watched(name: str) -> dict | None:
    """What the monitor said of the case, if it has run."""
    file = project.path("reports", "monitoring", f"{name}.json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _last_seen(watched: dict | None, case: Case) -> str:
    if watched is None:
        return ""
    name = case.window.name if case.window else "window"
    when = f", {name} {watched['window']}" if watched["window"] else ""
    return f"<p>Live rows{escape(when)}: {escape(watched['reason'])}.</p>"


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


def _link(step: Step, case: str | None, passed: bool = True) -> str:
    if step.without and not passed:
        return f"<li>{step.label}: {step.without}, because the gate failed</li>"
    return f'<li><a href="{step.page(case)}">{step.label}</a>: {step.about}</li>'


def _score() -> str:
    """A link to the scorecard with its score, if it has been written."""
    file = project.path("reports", scorecard.RESULT)
    if not file.is_file():
        return ""
    found = json.loads(file.read_text(encoding="utf-8"))
    score = f"{scorecard.shown(found['score'])} of {scorecard.shown(found['most'])}"
    return (
        f'<li><a href="{scorecard.PAGE}">scorecard</a>: {scorecard.TITLE}, {score}: '
        f"{found['means']}</li>"
    )


def _claims(cases: Iterable[str]) -> str:
    """Every claim once, by its number, with what is true; nothing if there are no claims."""
    found: dict[str, dict] = {}
    for step, case in all_runs(cases):
        file = project.path("reports", "claims", step.claims(case))
        if file.is_file():
            for claim in json.loads(file.read_text(encoding="utf-8")):
                found.setdefault(claim["number"], claim)  # the first case speaks for all
    if not found:
        return ""
    items = "".join(_claim(**claim) for claim in found.values())
    return f'{markdown(CLAIMS)}<dl class="claims">{items}</dl>'


def _claim(number: str, claim: str, truth: str, page: str, anchor: str) -> str:
    said = markdown(f"“{claim}”\n\n**What is true.** {truth}", links=False)
    return f'<dt><a href="{page}#{anchor}">Claim {number}</a></dt><dd>{said}</dd>'
