"""The view is the URL and the URL is the view."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.view import PAGES, View, parse, path, query, url

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
whole = st.none() | st.integers(0, 2**53)
many = st.lists(st.integers(0, 2**53), max_size=16, unique=True).map(tuple)
views = st.builds(
    View,
    run=texts,
    page=st.sampled_from(PAGES),
    layer=st.none() | texts,
    step=whole,
    unit=whole,
    track=many,
    marks=many,
)
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may share the machine


@calm
@given(views)
def test_every_view_survives_its_url(view):
    assert parse(path(view), query(view)) == view
    assert url(view).startswith("/run/")
    assert url(view).count("?") <= 1


@calm
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_address_is_some_view(pathname, search):
    view = parse(pathname, search)
    assert view.page in (*PAGES, "runs", "unknown")
    assert view.step is None or view.step >= 0


def test_addresses_of_the_pages():
    assert parse("/") == View(None, "runs")
    assert parse("/run/r1").page == "overview"
    assert parse("/run/r1/map", "?layer=a.b&step=7&unit=0") == View("r1", "map", "a.b", 7, 0)
    assert parse("/run/r1/nothing").page == "unknown"
    assert parse("/elsewhere").page == "unknown"


def test_nonsense_in_the_query_is_ignored():
    assert parse("/run/r1/map", "?step=-3&unit=1e9&layer=") == View("r1", "map")
    assert parse("/run/r1/map", "?step=²&unit=99999999999999999").step is None
    assert parse("/run/r1/map", "?track=5.x.-1.5.7").track == (5, 7)
