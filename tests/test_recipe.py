"""Whoever adds a step as docs/architecture.md says, and no more than that, has added a step."""

import json
import subprocess
import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import change_params, copy_project, environment, run_truefit
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from ruamel.yaml import YAML

MODULE = '''\
"""Greet a case."""


def greet(name: str, times: int) -> str:
    """A greeting for a case."""
    return f"{'Hello, ' * times}{name}!"
'''
BOOK = new_notebook(
    cells=[
        new_markdown_cell("# 09 Greeting"),
        new_code_cell('case = "loans"\ntimes = 2', metadata={"tags": ["parameters"]}),
        new_code_cell(
            "import json\n\n"
            "from truefit import params, project\nfrom truefit.evaluation import require_pass\n"
            "from truefit.figures import say\nfrom truefit.greeting import greet"
        ),
        new_code_cell(
            'settings = params.section("greeting", times=times)\n'
            'verdict = json.loads(project.path("reports", "gate", f"{case}.json").read_text())\n'
            "require_pass(verdict, case)"
        ),
        new_code_cell(
            "words = greet(params.load().case(case).title, settings.times)\n"
            'project.write_text(words, "reports", case, "greeting.txt")\nsay(words)'
        ),
    ],
    metadata={"language_info": {"name": "python"}},
)
MODEL = '''\
class Greeting(Section):
    """Parameters of 09_greeting."""

    times: int = Field(ge=1)


class Params(Strict):
'''
ENTRY = """\
    Step(
        number="09",
        name="greeting",
        does="Greet the case.",
        about="a kind word",
        without="nobody to greet",
        reads=("benchmarks/models.json",),
        makes=("reports/{case}/greeting.txt",),
    ),
)
"""


def replace(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} in {file.name}"
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A copy of the project whose people have followed the recipe, and its environment."""
    copy = copy_project(tmp_path_factory.mktemp("recipe") / "copy")
    code = copy / "src" / "truefit"
    nbformat.write(BOOK, copy / "notebooks" / "09_greeting.ipynb")
    (code / "greeting.py").write_text(MODULE, encoding="utf-8")
    replace(code / "params.py", "class Params(Strict):\n", MODEL)
    field = "    maintenance: Maintenance\n"
    replace(code / "params.py", field, f"{field}    greeting: Greeting\n")
    replace(code / "steps.py", "\n)\n", f"\n{ENTRY}")
    change_params(copy, add_parameters)
    (copy / "reports" / "gate").mkdir(parents=True)
    for name, passed in {"loans": True, "homes": False}.items():
        (copy / "reports" / "gate" / f"{name}.json").write_text(verdict(passed), encoding="utf-8")
    here = environment(PYTHONPATH=str(code.parent))
    (copy / ".dvc").mkdir()
    (copy / ".dvc" / "config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    # What `make tidy` does to dvc.yaml.
    subprocess.run([sys.executable, "-m", "truefit.dependencies"], cwd=copy, env=here, check=True)
    return copy, here


def add_parameters(params):
    del params["cases"]["machines"]
    params["greeting"] = {"times": 3}
    params["quick"]["greeting"] = {"times": 1}


def verdict(passed):
    found = {"metric": "r2", "value": 0.5, "low": 0.4, "high": 0.6, "confidence": 0.95}
    headline = found | {"label": "R²", "model": "ridge"}
    checks = [{"check": "R² at least 0.3", "passed": passed, "reason": "it is what it is"}]
    return json.dumps({"headline": headline, "passed": passed, "rows": 100, "checks": checks})


@pytest.fixture(scope="module")
def page(recipe):
    """The page of the step, by DVC, of a case that has passed the gate."""
    copy, here = recipe
    command = ["dvc", "repro", "--single-item", "greeting@loans"]
    run = subprocess.run(command, cwd=copy, env=here, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return parsed(copy / "reports" / "loans" / "09_greeting.html")


def parsed(page):
    return BeautifulSoup(page.read_bytes(), "html.parser")


def test_dvc_runs_the_step_for_a_case_and_knows_what_it_reads_and_makes(recipe, page):
    assert "Hello, Hello, Hello, Loan applicants!" in page.get_text()
    lock = YAML(typ="safe").load(recipe[0] / "dvc.lock")["stages"]["greeting@loans"]
    read, made = ({entry["path"] for entry in lock[which]} for which in ("deps", "outs"))
    assert {"src/truefit/greeting.py", "src/truefit/steps.py", "reports/gate/loans.json"} < read
    assert "benchmarks/models.json" in read and "src/truefit/index.py" not in read
    pages = {f"reports/loans/09_greeting.{suffix}" for suffix in ("html", "ipynb")}
    assert made == pages | {"reports/loans/greeting.txt"}
    assert {*lock["params"]["params.yaml"]} == {"cases.loans", "greeting"}


def test_the_bar_of_its_page_leads_to_the_other_steps(page):
    *others, own = page.select("header.bar li")
    assert own.get_text().strip() == "09 greeting" and own.find(attrs={"aria-current": "page"})
    assert [item.find("a")["href"] for item in others][:2] == [
        *("01_data_prep.html", "../02_regression_maths.html")
    ]


def test_the_front_page_says_what_the_step_shows_and_what_becomes_of_it(recipe, page):
    copy, here = recipe
    made = run_truefit("index", cwd=copy, env=here)
    assert (made.returncode, made.stderr) == (0, "")
    cards = parsed(copy / "reports" / "index.html").select(".card")
    said = {card["aria-labelledby"]: card.find_all("li")[-1] for card in cards}
    assert said["loans"].get_text() == "09 greeting: a kind word"
    assert said["loans"].find("a")["href"] == "loans/09_greeting.html"
    assert said["homes"].get_text() == "09 greeting: nobody to greet, because the gate failed"


def test_a_case_that_failed_the_gate_has_no_such_page(recipe):
    copy, here = recipe
    said = run_truefit("run", "greeting", "--case", "homes", cwd=copy, env=here).stderr
    assert said.startswith("truefit: the model of homes did not pass the gate")


def test_a_wrong_parameter_of_the_step_is_refused(recipe):
    copy, here = recipe
    wrong = ("run", "09_greeting", "--case", "loans", "-p", "times=0")
    said = run_truefit(*wrong, cwd=copy, env=here).stderr
    assert said == "truefit: greeting: times is 0, but should be greater than or equal to 1\n"
