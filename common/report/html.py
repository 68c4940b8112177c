"""Pieces of the page: what is given is HTML already, but for captions and names of domains."""

from collections.abc import Iterable, Sequence

from common.report.escape import on_page
from common.report.results import Domain


def section(title: str, *parts: str) -> str:
    """A heading over its parts; empty where they are."""
    content = "\n".join(part for part in parts if part)
    return f"<h3>{title}</h3>\n{content}" if content else ""


def table(header: Iterable[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    """A table whose lines begin with their names."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    rows = "".join(
        f'<tr><th scope="row">{cells[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in cells[1:]) + "</tr>"
        for cells in lines
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="caption">{on_page(caption)}</p>'
    )


def with_interval(value: str, interval: str) -> str:
    """A value, and in small what belongs to it."""
    return f"{value} <small>{interval}</small>" if interval else value


def domain_name(domain: Domain) -> str:
    """Its name, and whether training saw it; not HTML yet."""
    return f"{domain.name} ({'seen' if domain.seen else 'unseen'})"
