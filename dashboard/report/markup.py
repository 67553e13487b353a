"""The dashboard's own components as plain HTML, so that a report shows what the pages show. Pure.

Text is escaped, tags and attributes come from short lists, and addresses only from the report itself: nothing that a
run's name, a concept or an alert says can become markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from dash.development.base_component import Component

TAGS = frozenset(
    ("article", "b", "code", "dd", "details", "div", "dl", "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4",
     "i", "img", "li", "ol", "p", "pre", "section", "small", "span", "strong", "summary", "table", "tbody", "td", "th",
     "thead", "tr", "ul")
)  # fmt: skip
"""Other components are shown by their children alone: a link leads nowhere without a server."""
DROPPED = frozenset(("Button", "Store", "Interval", "Select", "Input", "Textarea"))
_ATTRIBUTES = {"className": "class", "title": "title", "role": "role", "scope": "scope", "alt": "alt"}
_STYLES = frozenset(("width",))

Images = Callable[[str], str | None]
"""The address of an image on the dashboard to a data URI; None where it cannot be had."""


def html_of(component: Any, images: Images = lambda address: None) -> str:
    """Components, texts and lists of them as HTML.

    Args:
        component: what a page's callback returns.
        images: gives the bytes of images as data URIs; an image without one becomes its text.

    >>> from dash import html
    >>> html_of(html.P(["a < b ", html.B("c")], className="x"))
    '<p class="x">a &lt; b <b>c</b></p>'
    """
    if component is None or isinstance(component, bool):
        return ""
    if isinstance(component, list | tuple):
        return "".join(html_of(one, images) for one in component)
    if not isinstance(component, Component):
        return escape(str(component))
    kind, inside = str(component._type), getattr(component, "children", None)
    if kind in DROPPED:
        return ""
    tag = kind.lower()
    if tag not in TAGS:
        return html_of(inside, images)
    given = component.to_plotly_json()["props"]
    if tag == "img":
        return _image(given, images)
    return f"<{tag}{_attributes(given)}>{html_of(inside, images)}</{tag}>"


def _image(given: Mapping[str, Any], images: Images) -> str:
    source = images(str(given.get("src", "")))
    if source is None or not source.startswith("data:image/"):
        return f'<span class="quiet">{escape(str(given.get("alt", "")))}</span>'
    return f'<img src="{escape(source)}"{_attributes(given)}>'


def _attributes(given: Mapping[str, Any]) -> str:
    said = {name: given[prop] for prop, name in _ATTRIBUTES.items() if given.get(prop)}
    said |= {name: value for name, value in given.items() if name.startswith("aria-") and name.isascii()}
    style = ";".join(f"{name}:{value}" for name, value in (given.get("style") or {}).items() if name in _STYLES)
    said |= {"style": style} if style else {}
    return "".join(f' {name}="{escape(str(value))}"' for name, value in said.items())
