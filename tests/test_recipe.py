"""Whoever adds a step as CONTRIBUTING.md says, and does no more than that, has added a step."""

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
            "from truefit import params\nfrom truefit.figures import say\n"
            "from truefit.greeting import greet"
        ),
        new_code_cell('settings = params.section("greeting", times=times)'),
        new_code_cell("say(greet(params.load().case(case).title, settings.times))"),
    ],
    metadata={"language_info": {"name": "python"}},
)
MODEL = '''\
class Greeting(Section):
    """Parameters of 09_greeting."""

    times: int = Field(ge=1)


class Params(_Strict):
'''
ENTRY = """\
    Step(number="09", name="greeting", about="a kind word", without="nobody to greet"),
)
"""
STAGE = """\
stages:
  greeting:
    foreach: ${cases}
    do:
      desc: Greet the case.
      cmd: truefit run 09_greeting --case ${key}
      deps:
        - notebooks/09_greeting.ipynb
        - requirements.txt
      params:
        - cases.${key}
        - greeting
      outs:
        - reports/${key}/09_greeting.html: {cache: false, persist: true}
        - reports/${key}/09_greeting.ipynb: {cache: false, persist: true}
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
    replace(code / "params.py", "class Params(_Strict):\n", MODEL)
    field = "    maintenance: Maintenance\n"
    replace(code / "params.py", field, f"{field}    greeting: Greeting\n")
    replace(code / "steps.py", "\n)\n", f"\n{ENTRY}")
    replace(copy / "dvc.yaml", "stages:\n", STAGE)
    change_params(copy, add_parameters)
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


def test_dvc_runs_the_step_for_a_case_and_knows_its_code(recipe):
    copy, here = recipe
    command = ["dvc", "repro", "greeting@loans"]
    run = subprocess.run(command, cwd=copy, env=here, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    page = (copy / "reports" / "loans" / "09_greeting.html").read_text(encoding="utf-8")
    assert "Hello, Hello, Hello, Loan applicants!" in page
    lock = YAML(typ="safe").load(copy / "dvc.lock")
    read = {entry["path"] for entry in lock["stages"]["greeting@loans"]["deps"]}
    assert {"src/truefit/greeting.py", "src/truefit/steps.py"} < read
    assert "src/truefit/index.py" not in read


def verdict(passed):
    found = {"metric": "r2", "value": 0.5, "low": 0.4, "high": 0.6, "confidence": 0.95}
    headline = found | {"label": "R²", "model": "ridge"}
    return json.dumps({"headline": headline, "passed": passed, "rows": 100, "checks": []})


def test_the_front_page_says_what_the_step_shows_and_what_becomes_of_it(recipe):
    copy, here = recipe
    (copy / "reports" / "gate").mkdir(parents=True)
    for name, passed in {"loans": True, "homes": False}.items():
        (copy / "reports" / "gate" / f"{name}.json").write_text(verdict(passed), encoding="utf-8")
    (copy / "reports" / "loans").mkdir(exist_ok=True)
    (copy / "reports" / "loans" / "09_greeting.html").touch()
    made = run_truefit("index", cwd=copy, env=here)
    assert (made.returncode, made.stderr) == (0, "")
    page = BeautifulSoup((copy / "reports" / "index.html").read_bytes(), "html.parser")
    said = {c["aria-labelledby"]: c.find_all("li")[-1] for c in page.select(".card")}
    assert said["loans"].get_text() == "09 greeting: a kind word"
    assert said["loans"].find("a")["href"] == "loans/09_greeting.html"
    assert said["homes"].get_text() == "09 greeting: nobody to greet, because the gate failed"


def test_a_wrong_parameter_of_the_step_is_refused(recipe):
    copy, here = recipe
    wrong = ("run", "09_greeting", "--case", "loans", "-p", "times=0")
    said = run_truefit(*wrong, cwd=copy, env=here).stderr
    assert said == "truefit: greeting: times is 0, but should be greater than or equal to 1\n"
