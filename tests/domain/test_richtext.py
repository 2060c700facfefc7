"""What an editor or a vendor does to markup is no edit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.richtext import html_of, normal, text_of

SCRAPS = st.sampled_from(
    "<p> </p> <br> <b> </b> <i> <ul> <li> </li> </ul> <div style='x'> </div> <pre> </pre> "
    "<a href='https://x.example'> </a> <blockquote> </blockquote> <script> </script> & &lt; "
    "&nbsp; <table><tr><td> one two".split(" ")
)
markup = st.lists(SCRAPS | st.just(" ") | st.text(max_size=5), max_size=12).map("".join)


@given(markup)
def test_the_normal_form_is_its_own_normal_form(text):
    assert normal(normal(text)) == normal(text)


@pytest.mark.parametrize(
    "same",
    [
        "<p>Call <strong>Ada</strong> &amp; Bob</p>",
        "<body><p>Call <b>Ada</b> &amp; Bob</p></body>",
        "Call <b>Ada</b> & Bob",
        '<div style="" dir="auto" data-top-level="true"><p style="margin:0;">Call '
        "<strong>Ada</strong> &amp; Bob</p></div>",
        "<p>Call  <strong>Ada</strong>\n&amp; Bob</p><p><br></p>",
        "<html><head><title>x</title></head><body>Call <b>Ada</b> &amp; Bob<br></body></html>",
    ],
)
def test_what_editors_make_of_one_note_is_one_note(same):
    assert normal(same) == "<p>Call <strong>Ada</strong> &amp; Bob</p>"


def test_lists_and_links_stay_and_scripts_do_not():
    wrapped = (
        "<ul> <li><p>one</p></li>\n<li>two</ul><a href='https://x.example' onclick='y'>x</a>"
        "<script>steal()</script><a href='javascript:y'>z</a>"
    )
    assert normal(wrapped) == (
        '<ul><li>one</li><li>two</li></ul><p><a href="https://x.example">x</a><a>z</a></p>'
    )


line = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1).map(
    str.strip
)


@given(st.lists(line.filter(bool), min_size=1, max_size=4).map("\n".join))
def test_a_text_comes_back_from_markup_as_it_was(text):
    assert text_of(html_of(text)) == text


@pytest.mark.parametrize("blank", ["", "<p></p>", "<p>\n<br></p>", "<body></body>"])
def test_markup_without_text_is_blank(blank):
    assert normal(blank) == text_of(blank) == ""
