from edge_compress.report_page.markup import Markup, join, tag


def test_text_and_attributes_are_escaped_and_markup_is_not():
    assert tag("p", "<b>", tag("i", "&")) == "<p>&lt;b&gt;<i>&amp;</i></p>"
    assert tag("p", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_attribute_names():
    assert tag("th", class_="a", aria_label="b", viewBox="0 0 1 1", left=None) == (
        '<th class="a" aria-label="b" viewBox="0 0 1 1"></th>'
    )


def test_void_elements_do_not_close():
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_join_drops_nothing_but_emptiness():
    assert join("a", None, "", Markup("<br>"), "<") == "a<br>&lt;"


def test_joining_strings_loses_the_promise():
    assert not isinstance(Markup("<b>") + "<i>", Markup)
