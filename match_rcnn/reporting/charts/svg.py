"""Inline SVG. Colours are classes that the page's style sheet knows."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """One element. Underscores in attribute names become hyphens, one at the end goes away
    (``class_``); numbers get two decimals at most.

    Args:
        content: elements, or text, which is escaped.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _text(value))
        for name, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(content)
    if not inside:
        return Markup("<{}{}/>").format(tag, written)
    return Markup("<{}{}>{}</{}>").format(tag, written, inside, tag)


def _text(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Two decimals at most, no zeros at the end."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def text(
    x: float, y: float, words: str, anchor: str = "start", class_: str | None = None
) -> Markup:
    return element("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def title(words: str) -> Markup:
    """What a browser shows when the pointer rests on the parent."""
    return element("title", words)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", d=f"M{steps}", class_=class_) if points else Markup()


def rectangle(
    x: float, y: float, width: float, height: float, class_: str, words: str = ""
) -> Markup:
    tip = [title(words)] if words else []
    return element("rect", *tip, x=x, y=y, width=width, height=height, class_=class_)


def canvas(width: float, height: float, parts: Sequence[str], label: str) -> Markup:
    """The whole picture; it shrinks with the page and never grows beyond its size.

    Args:
        label: what a screen reader says.
    """
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        aria_label=label,
        style=f"max-width:{number(width)}px",
    )


@dataclass(frozen=True)
class Scale:
    """From the numbers ``low`` to ``high`` to the places ``start`` to ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def nice_ticks(high: float, number_of_ticks: int = 4) -> list[float]:
    """From 0 to at least ``high`` (which must be positive) in steps of 1, 2 or 5 times a power
    of ten."""
    step = 10.0**-12
    while step * number_of_ticks < high:
        leading = f"{step:.0e}"[0]
        step *= 2.5 if leading == "2" else 2
    count = next(i for i in range(1, number_of_ticks + 1) if i * step >= high * (1 - 1e-9))
    return [float(f"{i * step:.12g}") for i in range(count + 1)]


def standalone(picture: str, style: str) -> str:
    """A canvas as a file of its own. Args: style: the page's style sheet."""
    head, _, rest = picture.partition(">")
    return f"{head}><style><![CDATA[{style}]]></style>{rest}\n"
