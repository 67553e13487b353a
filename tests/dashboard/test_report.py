"""The report: one file that opens without a server, fetches nothing, and lets no text become markup."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from chromium import CHROMIUM, DRIVER, Browser, start_chromium
from dash import dcc, html
from harness import ROOT, SMALL, environment
from hypothesis import given, settings
from hypothesis import strategies as st
from store_factory import Factory, fill

from cm_server.config import ConfigError
from cm_server.stores.errors import StoreError
from dashboard.report.__main__ import main, make
from dashboard.report.document import Figures, document
from dashboard.report.markup import TAGS, html_of

calm = settings(deadline=None, max_examples=40)

EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


class Outline(HTMLParser):
    """The tags, the text, and every address in a document."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


def run(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "cm_server.cli", "report", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120)


texts = st.recursive(
    st.text(max_size=20),
    lambda inner: st.builds(
        lambda kind, children, name: getattr(html, kind)(children, className=name, title=name),
        st.sampled_from(["Div", "P", "B", "Span", "Td"]),
        st.lists(inner, max_size=3),
        st.text(max_size=8),
    ),
    max_leaves=8,
)


@calm
@given(texts)
def test_text_never_becomes_markup(component):
    outline = Outline(html_of(component))
    assert set(outline.tags) <= TAGS
    assert not outline.handlers
    assert not outline.addresses


def test_components_become_plain_html_and_what_needs_a_server_is_left_out():
    shown = html_of(
        html.Div(
            [
                dcc.Link("step 5", href="/run/r1/overview?step=5"),
                html.A("out", href="https://example.org"),
                html.Button("press"),
                html.Img(src="/probe/p/1.png", alt="image 1"),
                html.Span(None, style={"width": "3%", "position": "fixed"}),
                html.Iframe(src="https://example.org"),
            ]
        ),
        lambda address: "data:image/png;base64,AA==" if address == "/probe/p/1.png" else None,
    )
    assert (
        shown
        == '<div>step 5out<img src="data:image/png;base64,AA==" alt="image 1"><span style="width:3%"></span></div>'
    )
    assert (
        html_of(html.Img(src="https://x/y.png", alt="a <b>"), lambda a: a) == '<span class="quiet">a &lt;b&gt;</span>'
    )


def test_the_documents_data_cannot_end_its_element():
    figures = Figures()
    figures.place({name: {"data": [{"name": EVIL}], "layout": {}} for name in ("light", "dark")}, EVIL, 100)
    made = document(EVIL, [figures.place({"light": {}, "dark": {}}, "x", 10)], figures, "/* plotly </script> */", [])
    outline = Outline(made)
    assert outline.tags.count("script") == 4
    assert "img" not in outline.tags
    data = re.search(r'id="figures">(.*?)</script>', made, re.S)
    assert data
    assert json.loads(data[1])["f0"]["light"]["data"][0]["name"] == EVIL


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reported") / "store"
    factory = Factory(directory, SMALL, words=150)
    fill(factory, snapshots=20, name=EVIL)
    factory.alert("r1", 200, "layer2", message=f"it rises {EVIL}")
    factory.begin("empty")
    factory.close()
    return directory


def test_a_report_has_everything_inside(store):
    made = make(store, "r1")
    outline = Outline(made)
    assert outline.addresses
    assert all(address.startswith("data:image/png;base64,") for address in outline.addresses)
    assert not outline.handlers
    assert outline.tags.count("script") == 4
    assert "http-equiv" in made
    said = " ".join(outline.words)
    for part in (
        EVIL, f"it rises {EVIL}", "lower is more diverse", "What the layers speak of",
        "The most common concepts of layer2", "The map of layer2 at step 380", "best described neurons",
        "the network was slow", "cos_cubed", "Whether the model is good",
    ):  # fmt: skip
        assert part in said
    data = re.search(r'id="figures">(.*?)</script>', made, re.S)
    figures = json.loads(data[1])
    assert len(figures) == 6
    assert {theme for one in figures.values() for theme in one} == {"light", "dark"}
    kinds = {trace["type"] for one in figures.values() for trace in one["light"]["data"]}
    assert "scattergl" not in kinds, "WebGL needs what the file's policy forbids"


def test_a_report_of_the_past_knows_nothing_later(store):
    said = " ".join(Outline(make(store, "r1", "layer1", 100)).words)
    assert "The map of layer1 at step 100" in said
    assert "it rises" not in said


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (("absent",), r"no run 'absent'.*it has .*r1"),
        (("empty",), r"'empty' has no snapshot yet"),
        (("r1", "layer9"), r"no layer 'layer9': choose one of layer1, layer2"),
    ],
)
def test_what_cannot_be_reported_is_said(store, asked, named):
    with pytest.raises(ConfigError, match=named):
        make(store, *asked)


def test_no_store_names_the_cure(tmp_path):
    with pytest.raises(StoreError, match="no store at"):
        make(tmp_path / "none", "r1")


@pytest.mark.browser
@pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed")
def test_the_command_writes_a_file_that_draws_itself_in_both_themes_without_a_request(store, tmp_path):
    out = tmp_path / "run.html"
    done = run("r1", "--store", str(store), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == out.stat().st_size
    driver = start_chromium(tmp_path / "profile")
    try:
        browser = Browser(driver)
        driver.get(out.as_uri())
        drawn = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
        browser.until(lambda: browser.ask(drawn) >= 6, "the charts")
        colour = "getComputedStyle(document.body).color"
        before = browser.ask(colour)
        browser.ask("document.getElementById('scheme').click()")
        browser.until(lambda: browser.ask(colour) != before, "the other theme")
        widths = "Array.from(document.querySelectorAll('img')).every(i => i.complete && i.naturalWidth > 0)"
        assert browser.ask(widths)
        requests = browser.ask(
            "performance.getEntriesByType('resource').map(e => e.name).filter(n => !/^(data|blob):/.test(n))"
        )
        assert requests == []
        assert browser.log() == []
    finally:
        driver.quit()


def test_a_file_that_cannot_be_written_is_one_line(store, tmp_path, capsys):
    assert main(["r1", "--store", str(store), "--out", str(tmp_path / "no" / "where.html")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--out" in said.err
