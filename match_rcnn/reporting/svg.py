"""Inline SVG, made of plain strings. Colours are classes that the page's style sheet knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


def element(tag: str, content: str = "", **attributes: object) -> str:
    """One element. Underscores in attribute names become hyphens, one at the end goes away
    (``class_``); numbers get two decimals at most.

    Args:
        content: SVG, already escaped.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def _text(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Two decimals at most, no zeros at the end."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> str:
    return element("text", escape(words), x=x, y=y, text_anchor=anchor, class_=class_)


def title(words: str) -> str:
    """What a browser shows when the pointer rests on the parent."""
    return f"<title>{escape(words)}</title>"


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", d=f"M{steps}", class_=class_) if points else ""


def rectangle(x: float, y: float, width: float, height: float, class_: str, words: str = "") -> str:
    return element(
        "rect", title(words) if words else "", x=x, y=y, width=width, height=height, class_=class_
    )


def canvas(width: float, height: float, content: str, label: str) -> str:
    """The whole picture; it shrinks with the page and never grows beyond its size.

    Args:
        label: what a screen reader says.
    """
    return element(
        "svg",
        content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        aria_label=label,
        style=f"max-width:{number(width)}px",
    )


@dataclass(frozen=True)
class Scale:
    """From values to pixels, linear."""

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
