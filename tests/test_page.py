"""A person with a browser gets answers from the service's page: by mouse, by keyboard, by phone."""

import json
import os
import re
import shutil
import subprocess

import cases
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from service import COMMAND, Service, copy_models, manifest, rows, until, write

from truefit.digits import to_spread

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
USUAL = {"viewport": DESK, "reduced_motion": "reduce"}  # so that no place is measured in motion
HOSTILE = '<img src="/nothing" onerror="document.title=1">'
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
each_case = pytest.mark.parametrize("name", cases.NAMES)
each_look = pytest.mark.parametrize("look", ["light", "dark"])


def tool(*names: str) -> str:
    """The path of a program that these tests drive."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("TRUEFIT_ALL_TOOLS") == "1" else pytest.skip
        give_up(f"{names[0]} is not installed")
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("service"), "--no-log")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A service that wants a key, for a case whose title is an attack; and the key."""
    folder = tmp_path_factory.mktemp("locked")
    models = copy_models(folder)
    path = models / "loans" / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) | {"title": HOSTILE}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    made = subprocess.run(
        [COMMAND[0], "key", "reader", "--keys", "keys"],
        cwd=folder, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    running = Service(folder, "--no-log", "--keys", folder / "keys", models_folder=models)
    yield running, made.stdout.split()[-1]
    running.stop()


@pytest.fixture(scope="module")
def browser():
    path = tool("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-quic"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens pages; at the end nothing may have gone wrong in them or elsewhere than expected."""
    contexts, wrong, expected = [], [], []

    def visit(url: str, complaints: tuple[str, ...] = (), **context):
        contexts.append(browser.new_context(**(USUAL | context)))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        origin = "/".join(url.split("/")[:3])
        expected.extend(complaints)

        def sent(request):
            if not request.url.startswith((origin + "/", "data:")):
                wrong.append(request.url)

        def said(message):
            bad = message.type in ("error", "warning")
            if bad and not any(text in message.text for text in expected):
                wrong.append(message.text)

        page.on("request", sent)
        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def open_case(visit, service, name: str, **more):
    page = visit(f"{service.url}/#{name}", **more)
    expect(page.locator("#form .field").first).to_be_visible()
    return page


def predict(page):
    """Press the button; the answer's headline."""
    page.get_by_role("button", name="Predict").click()
    return answered(page)


def answered(page) -> str:
    expect(page.locator("#headline")).to_be_visible()
    expect(page.locator("#answer")).not_to_have_attribute("aria-busy", "true")
    return page.locator("#headline").inner_text()


def typical(service, name: str) -> dict:
    inputs = service.client.get(f"/v1/cases/{name}").json()["inputs"]
    return {column["name"]: column.get("typical") for column in inputs}


def three_digits(value: float, spread: float) -> str:
    return to_spread(value, spread / 10)


# A person asks


@each_case
def test_typical_values_are_answered_as_the_service_answers_them(name, service, visit):
    page = open_case(visit, service, name)
    assert page.locator("#first .field").count() <= 10
    headline = predict(page)
    (said,) = service.predict(name, typical(service, name)).json()["predictions"]
    explained = page.locator("#explained").inner_text()
    if name == "loans":
        assert headline.split()[0] == said["prediction"]
        for share in said["probabilities"].values():
            assert f"{round(100 * share, 1):g}" in explained
        assert "threshold of 16.7" in explained and "5 times" in explained
    else:
        spread = said["high"] - said["low"]
        assert headline.startswith(three_digits(said["prediction"], spread))
        assert three_digits(said["low"], spread) in explained
        assert three_digits(said["high"], spread) in explained
        assert "90" in explained
    assert "and this is one" in page.locator("#moved-about").inner_text()
    assert page.locator("#live").inner_text().startswith(said_of(name) + headline.split()[0])


def said_of(name: str) -> str:
    return f"{cases.PARAMS.cases[name].target.replace('_', ' ')}: "


def test_a_value_is_changed_and_the_answer_read_by_keyboard_alone(service, visit):
    page = visit(service.url)
    expect(page.locator("#form .field").first).to_be_visible()
    keys = page.keyboard

    def tab_to(target: str):
        for _ in range(60):
            keys.press("Tab")
            if (
                page.evaluate("document.activeElement.id || document.activeElement.localName")
                == target
            ):
                ring = "getComputedStyle(document.activeElement).outlineStyle"
                assert page.evaluate(ring) == "solid", f"{target} has no ring around it"
                return
        raise AssertionError(f"Tab does not lead to {target}")

    tab_to("of-gr_liv_area")
    keys.press("Enter")
    before = answered(page)
    keys.press("Control+A")
    keys.type("3000")
    expect(page.locator("#stale")).to_be_visible()
    keys.press("Enter")
    expect(page.locator("#stale")).to_be_hidden()
    after = answered(page)
    assert float(after.split()[0].replace(",", "")) > float(before.split()[0].replace(",", ""))
    low, high = re.findall(r"[\d,]{5,}", page.locator("#explained").inner_text())[:2]
    assert low < after.split()[0] < high
    moved = page.locator("#moves tr").first
    assert "gr liv area" in moved.inner_text() and "3,000, typically" in moved.inner_text()
    assert moved.locator("rect.up").get_attribute("width") == "100%"

    tab_to("summary")
    keys.press("Space")
    expect(page.locator("#of-fence")).to_be_visible()
    tab_to("of-fence")
    keys.type("MnP")
    expect(page.locator("#curl")).to_contain_text('"fence": "MnPrv"')
    # The other case is a link away, and its title is read out.
    page.get_by_role("link", name="Loan applicants").focus()
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Loan applicants")).to_be_focused()
    expect(page.locator("#said")).to_be_hidden()


def test_contributions_are_bars_that_lead_from_the_typical_row_to_this_one(service, visit):
    page = open_case(visit, service, "loans")
    page.fill("#of-seniority", "30")
    page.select_option("#of-records", "yes")
    predict(page)
    rows = page.locator("#moves tr").all_inner_texts()
    moved = [float(re.search(r"([+−][\d.]+) points", row)[1].replace("−", "-")) for row in rows]
    assert sorted(row.split()[0] for row in rows) == ["records", "seniority"]
    assert page.locator("#moves rect.up").count() == page.locator("#moves rect.down").count() == 1
    start, end = re.findall(r"([\d.]+)\s%", page.locator("#moved-about").inner_text())
    assert sum(moved) == pytest.approx(float(end) - float(start), abs=0.21)


def test_a_value_unlike_any_in_training_is_answered_with_a_warning(service, visit):
    page = open_case(visit, service, "machines")
    page.fill("#of-ram", "512")
    predict(page)
    assert page.locator("#warnings li").all_inner_texts() == [
        f"ram: 512 is above {cases.train('machines')['ram'].max()}, the largest in training"
    ]
    assert page.locator("#live").inner_text().endswith("1 warning.")
    page.get_by_role("button", name="Typical values").click()
    assert page.input_value("#of-ram") == f"{typical(service, 'machines')['ram']:g}"
    predict(page)
    expect(page.locator("#warned")).to_be_hidden()


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("gr_liv_area", "two thousand", "must be a number"),
        ("overall_qual", "", "must not be null"),
        ("pool_area", "1e60", "no number may be beyond"),  # in the fold
    ],
)
def test_an_error_stands_beside_its_field(column, value, why, service, visit):
    page = open_case(visit, service, "homes", complaints=("status of 422",))
    field = page.locator(f"#of-{column}")
    folded = not field.is_visible()
    if folded:
        page.locator("summary").click()
    field.fill(value)
    if folded:
        page.locator("summary").click()
        expect(field).to_be_hidden()
    page.get_by_role("button", name="Predict").click()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile(f"{column}.* {why}"))
    error = page.locator(f"#of-{column}-error")
    above, below = field.bounding_box(), error.bounding_box()
    assert abs(above["x"] - below["x"]) < 5
    assert 0 < below["y"] - (above["y"] + above["height"]) < 60
    expect(page.locator("#said")).to_be_hidden()
    field.fill("8")
    expect(error).to_have_text("")
    predict(page)


def test_what_is_not_known_or_not_there_can_be_left_out(service, visit):
    page = open_case(visit, service, "homes")
    page.locator("summary").click()
    page.select_option("#of-garage_type", label="has none")
    page.fill("#of-lot_frontage", "")
    page.select_option("#of-electrical", label="not known")
    expect(page.locator("#of-lot_frontage")).to_have_accessible_description(
        re.compile("empty: not known")
    )
    for column in ("garage_type", "lot_frontage", "electrical"):
        expect(page.locator("#curl")).to_contain_text(f'"{column}": null')
    predict(page)
    expect(page.locator("#warned")).to_be_hidden()
    # What every training row had cannot be left out.
    (graded,) = (i for i in manifest("homes")["inputs"] if i["name"] == "exter_qual")
    assert page.locator("#of-exter_qual option").all_inner_texts() == graded["categories"]


def test_the_command_for_a_terminal_gives_the_same_answer(service, visit):
    page = open_case(visit, service, "machines")
    page.fill("#of-ram", "16")
    command = page.locator("#curl").inner_text()
    done = subprocess.run(
        ["bash", "-c", command.replace("curl", f"{tool('curl')} --silent", 1)],
        capture_output=True, encoding="utf-8", timeout=30, check=True,
    )  # fmt: skip
    (said,) = json.loads(done.stdout)["predictions"]
    assert predict(page).startswith(three_digits(said["prediction"], said["high"] - said["low"]))
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).not_to_be_empty()


def test_a_service_that_is_gone_is_said_to_be(service, visit):
    page = open_case(visit, service, "loans", complaints=("ERR_INTERNET_DISCONNECTED",))
    before = predict(page)
    page.context.set_offline(True)
    problem = page.locator("[role=alert]")
    page.get_by_role("button", name="Predict").click()
    expect(problem).to_have_text("The service does not answer. Try again in a moment.")
    page.context.set_offline(False)
    assert predict(page) == before
    expect(problem).to_have_text("")


# Keys and attacks


def test_a_key_is_asked_for_where_one_is_needed_and_not_kept(locked, visit):
    service, key = locked
    page = visit(service.url + "/#machines", complaints=("status of 401",))
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    field.fill("guess")
    field.press("Enter")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description("The service does not know this key.")
    field.fill(key)
    field.press("Enter")
    expect(field).to_be_hidden()
    predict(page)
    command = page.locator("#curl").inner_text()
    assert "Bearer $TRUEFIT_KEY" in command and key not in page.content()
    kept = "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"
    assert page.evaluate(kept) == '["",{},{}]'
    page.reload()
    expect(field).to_be_visible()


def test_what_the_service_says_is_text_and_never_markup(locked, visit):
    service, key = locked
    page = visit(service.url + "/#loans", complaints=("status of 401",))
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#title")).to_have_text(HOSTILE)
    expect(page.locator("#cases")).to_contain_text(HOSTILE)
    assert page.locator("img").count() == 0 and page.title() == f"{HOSTILE} · Truefit"
    docs = visit(service.url + "/docs")
    expect(docs.get_by_role("heading", name=HOSTILE)).to_be_visible()
    assert docs.locator("img, script").count() == 0


# Champion and challenger


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory):
    """A service whose machines and loans have a challenger each, which have scored some rows."""
    folder = tmp_path_factory.mktemp("shadowed")
    models = copy_models(folder)
    write(folder / "rival", "machines", "ridge")
    (folder / "rival" / "machines" / "bundle").rename(models / "machines" / "challenger")
    bundle, rival = (models / "loans" / name for name in ("bundle", "challenger"))
    shutil.copytree(bundle, rival)
    manifest = json.loads((rival / "manifest.json").read_bytes()) | {"threshold": 0.4}
    (rival / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    running = Service(folder, "--no-log", "--shadow", 1, models_folder=models)
    for name in ("machines", "loans"):
        for part in (rows(name, 600), rows(name, 1)):
            running.predict(name, part)
        until(lambda n=name: (compared(running, n)["shadow"] or {}).get("requests") == 2)
    yield running
    running.stop()


def compared(service, name: str) -> dict:
    return service.client.get(f"/v1/cases/{name}/comparison").json()


def open_comparison(visit, service, name: str, **more):
    page = visit(f"{service.url}/comparison#{name}", **more)
    expect(page.locator("#title")).not_to_be_empty()
    return page


def test_the_comparison_says_in_words_and_points_what_the_service_counts(shadowed, visit):
    page = open_comparison(visit, shadowed, "machines")
    found = compared(shadowed, "machines")
    shadow, (apart, about) = found["shadow"], (found["shadow"]["apart"], page.locator("#about"))
    expect(about).to_contain_text("has answered 2 requests")
    expect(about).to_contain_text(f"has scored 2 of these too, with {shadow['rows']} rows")
    for side in ("champion", "challenger"):
        expect(about).to_contain_text(f"version {found[side]['version']}")
    said = page.locator("#differ").inner_text()
    for share in (apart["q50"], apart["q95"], apart["largest"]):
        assert f"{round(100 * share, 1):g}\N{NO-BREAK SPACE}%" in said
    assert ("above" if shadow["difference"]["mean"] > 0 else "below") in said
    expect(page.locator("#caution")).to_contain_text("cannot say which of the two is better")
    expect(page.locator("#caution")).to_contain_text("compares the two on the rows that both")
    expect(page.locator("#command")).to_contain_text("truefit monitor")
    points = page.locator("#plot circle")
    assert points.count() == 500 == len(shadow["pairs"])
    # The newest row is the last point: its place is its two predictions.
    frame, places = page.locator("#plot .frame").bounding_box(), page.locator("#plot .same")
    champion, challenger = shadow["pairs"][-1]
    values = [v for pair in shadow["pairs"] for v in pair]
    room = (max(values) - min(values)) / 20
    low, high = min(values) - room, max(values) + room
    x, y = ((v - low) / (high - low) for v in (champion, challenger))
    at = points.last.bounding_box()
    assert at["x"] + at["width"] / 2 == pytest.approx(frame["x"] + x * frame["width"], abs=1)
    assert at["y"] + at["height"] / 2 == pytest.approx(
        frame["y"] + (1 - y) * frame["height"], abs=1)  # fmt: skip
    expect(places).to_have_count(1)
    expect(page.get_by_role("img")).to_have_accessible_name(re.compile("newest 500 rows"))
    median = page.get_by_role("row", name="50 % of the predictions").locator("td")
    for cell, side in zip(median.all_inner_texts(), ("champion", "challenger"), strict=True):
        q50 = found[side]["predictions"]["q50"]
        assert float(cell.replace(",", "")) == pytest.approx(q50, rel=0.01)
    shadowed.predict("machines", rows("machines", 1))
    until(lambda: compared(shadowed, "machines")["shadow"]["requests"] == 3)
    page.get_by_role("button", name="Look again").click()
    expect(about).to_contain_text("has answered 3 requests")


def test_the_comparison_of_a_classification_counts_other_calls(shadowed, visit):
    page = visit(shadowed.url)
    page.get_by_role("link", name="Loan applicants").click()
    expect(page.get_by_role("heading", level=1, name="Loan applicants")).to_be_focused()
    page.get_by_role("link", name="Comparison").click()
    expect(page.locator("#title")).to_have_text("Loan applicants: champion and challenger")
    share = compared(shadowed, "loans")["shadow"]["called_differently"]
    assert 0.05 < share < 0.5
    said = page.locator("#differ").inner_text()
    assert f"call {round(100 * share, 1):g}\N{NO-BREAK SPACE}% of the rows differently" in said
    assert "on average the same as the champion's" in said


def test_where_there_is_no_challenger_the_comparison_says_how_to_put_one(shadowed, service, visit):
    page = open_comparison(visit, shadowed, "homes")
    expect(page.locator("#about")).to_contain_text("no challenger: none lies beside the champion")
    expect(page.locator("#place")).to_contain_text("homes/challenger/model.onnx")
    expect(page.locator("#start")).to_contain_text("truefit serve --shadow 1.0")
    expect(page.locator("#both")).to_be_hidden()
    page.get_by_role("link", name="Prices of personal computers").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.locator("#none")).to_be_hidden()
    page = open_comparison(visit, service, "loans")
    expect(page.locator("#about")).to_contain_text("started without --shadow and without --canary")


def test_a_comparison_needs_the_key_and_takes_words_as_text(locked, visit):
    service, key = locked
    page = visit(f"{service.url}/comparison#loans", complaints=("status of 401",))
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#title")).to_contain_text(HOSTILE)
    expect(page.locator("#title")).to_be_visible()
    assert page.locator("img").count() == 0


@pytest.mark.parametrize(("look", "size"), [("light", DESK), ("dark", PHONE)])
def test_the_comparison_has_no_barrier_and_fits(look, size, shadowed, visit):
    for name in cases.NAMES:
        page = open_comparison(visit, shadowed, name, viewport=size, color_scheme=look)
        assert violations(page) == []
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_who_answered_in_a_canary_is_said(tmp_path, visit):
    models = copy_models(tmp_path)
    rival = shutil.copytree(models / "loans" / "bundle", models / "loans" / "challenger")
    manifest = json.loads((rival / "manifest.json").read_bytes()) | {"threshold": 0.4}
    (rival / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    running = Service(tmp_path, "--no-log", "--canary", 1, models_folder=models)
    page = open_case(visit, running, "loans")
    expect(page.locator("#role")).to_be_hidden()
    predict(page)
    version = compared(running, "loans")["challenger"]["version"]
    expect(page.locator("#role")).to_have_text(f"The challenger answered, version {version}.")
    page = open_comparison(visit, running, "loans")
    expect(page.locator("#about")).to_contain_text("has answered 1 of 1 request")
    expect(page.locator("#apart")).to_be_hidden()
    assert violations(page) == []
    page.close()
    running.stop()


# Every screen, every eye


@each_case
def test_nothing_overflows_a_phone_sideways(name, service, visit):
    page = open_case(visit, service, name, viewport=PHONE)
    too_wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(too_wide)
    page.locator("#first input").first.fill("123456789")
    page.evaluate("document.querySelector('details').open = true")
    predict(page)
    expect(page.locator("#headline")).to_be_in_viewport(ratio=1)
    assert not page.evaluate(too_wide)


def test_the_page_on_the_api_fits_a_phone(service, visit):
    page = visit(service.url + "/docs", viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def violations(page) -> list[str]:
    found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]})
    return [
        f"{v['id']}: {node['html']}" for v in found.response["violations"] for node in v["nodes"]
    ]


@each_look
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_no_barrier(look, size, service, visit):
    page = open_case(
        visit, service, "homes", viewport=size, color_scheme=look,
        complaints=("status of 422",),
    )  # fmt: skip
    assert violations(page) == []
    page.locator("summary").click()
    page.fill("#of-gr_liv_area", "9000")
    page.fill("#of-overall_qual", "2")
    predict(page)
    assert violations(page) == []
    page.fill("#of-gr_liv_area", "many")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#of-gr_liv_area")).to_have_attribute("aria-invalid", "true")
    assert violations(page) == []


@each_look
def test_axe_finds_no_barrier_in_the_other_pages(look, service, locked, visit):
    page = open_case(visit, service, "loans", color_scheme=look)
    predict(page)
    assert violations(page) == []
    page = visit(locked[0].url, complaints=("status of 401",), color_scheme=look)
    expect(page.get_by_label("API key")).to_be_visible()
    assert violations(page) == []
    page = visit(service.url + "/docs", color_scheme=look, viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert violations(page) == []


def test_wishes_of_the_system_are_respected(service, visit):
    def style(page, element: str, name: str) -> str:
        return page.evaluate(f"getComputedStyle(document.querySelector('{element}')).{name}")

    light = open_case(visit, service, "loans", color_scheme="light")
    dark = open_case(visit, service, "loans", color_scheme="dark", reduced_motion="no-preference")
    assert style(light, "body", "backgroundColor") == "rgb(255, 255, 255)"
    assert style(dark, "body", "backgroundColor") == "rgb(21, 25, 29)"
    assert style(light, "html", "scrollBehavior") == "auto"
    assert style(dark, "html", "scrollBehavior") == "smooth"
    predict(dark)
    dark.emulate_media(media="print")
    # Paper is white whatever the screen was, and nobody presses a button on it.
    assert style(dark, "html", "color") != style(dark, "html", "backgroundColor")
    assert style(dark, "body", "backgroundColor") == "rgb(255, 255, 255)"
    expect(dark.get_by_role("button", name="Predict")).to_be_hidden()
    expect(dark.locator("#headline")).to_be_visible()


def test_without_a_script_the_page_says_where_to_go(service, visit):
    page = visit(service.url, java_script_enabled=False)
    expect(page.get_by_text("This page needs JavaScript")).to_be_visible()
    page.get_by_role("link", name="The API", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="The API")).to_be_visible()
