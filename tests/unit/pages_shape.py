"""A page as a browser's parser sees it: tags, attributes, words. Knows no page in particular."""

from __future__ import annotations

from html.parser import HTMLParser

OPEN_ENDED = {"meta", "img", "br", "link", "input"}


class Shape(HTMLParser):
    """Tags, attributes and words as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in OPEN_ENDED:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def stands_alone(text: str) -> Shape:
    """Nothing is asked of anybody, nothing runs, and everything that was opened is closed."""
    shape = Shape(text)
    assert shape.open == []
    assert not {"script", "img", "link", "iframe", "a", "object", "base", "form"} & set(shape.tags)
    for name, value in shape.attributes:
        assert not name.startswith("on") and name not in ("style", "href", "src"), name
        assert "//" not in (value or "")
    return shape
