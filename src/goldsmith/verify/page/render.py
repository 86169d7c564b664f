"""From a verdict to a page: the summary on top, then what failed, then everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from importlib.resources import files

from goldsmith.definition.hygiene import HYGIENE_CHECKS
from goldsmith.verify.outcome import Outcome, Portrait, State, Verdict
from goldsmith.verify.page.boot import render_boot
from goldsmith.verify.text import render_text

MARKS = {State.PASSED: "✓", State.FAILED: "✗", State.SKIPPED: "○", State.INFO: "i"}
WORDS = {State.PASSED: "passed", State.FAILED: "failed", State.SKIPPED: "skipped", State.INFO: "measured"}
TITLES = {"hygiene": "Hygiene", "tests": "The image's own tests", "goss": "goss"}
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""The page may load nothing at all (Content Security Policy)."""
MIB = 1 << 20


def render_html(verdict: Verdict) -> str:
    """Render a verdict as a page that stands alone."""
    style, script = _read("report.css"), _read("report.js")
    title = f"{verdict.version}: {WORDS[verdict.state]}"
    body = "\n".join(part for part in _list_sections(verdict) if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{render_text(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>\n{style}</style></head>\n'
        f"<body><main>\n{body}\n</main><script>\n{script}</script></body></html>\n"
    )


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _list_sections(verdict: Verdict) -> Iterator[str]:
    yield _render_header(verdict)
    yield _render_figures(verdict)
    yield _render_list("What failed", verdict.list_in(State.FAILED))
    for group in dict.fromkeys(outcome.group for outcome in verdict.outcomes):
        outcomes = [one for one in verdict.outcomes if one.group == group and one.state is not State.FAILED]
        yield _render_list(TITLES.get(group, group), outcomes)
    yield _render_journal(verdict.portrait)
    yield render_boot(verdict.portrait)
    yield _render_packages(verdict.portrait)
    yield _render_facts(verdict)


def _render_header(verdict: Verdict) -> str:
    counts = {state: len(verdict.list_in(state)) for state in (State.PASSED, State.FAILED, State.SKIPPED, State.INFO)}
    share = "".join(f'<i class="{state}" style="flex:{count}"></i>' for state, count in counts.items() if count)
    tally = "".join(
        f'<span class="{state}"><b>{count}</b> {WORDS[state]}</span>' for state, count in counts.items() if count
    )
    state = verdict.state
    tested = f"{verdict.started.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {verdict.seconds:.1f} s"
    told = " · ".join(text for text in (verdict.portrait.system, f"tested {tested}") if text)
    return (
        f'<header class="card {state}"><div class="top"><h1>{render_text(verdict.version)}</h1>'
        f'<span class="pill">{MARKS[state]} {WORDS[state].upper()}</span></div><p>{render_text(told)}</p>'
        f'<div class="share" aria-hidden="true">{share}</div><div class="tally">{tally}</div></header>'
    )


def _render_figures(verdict: Verdict) -> str:
    figures = verdict.figures
    tiles = {
        "Ready after": _format(figures.get("ready_seconds"), "{:.1f} s"),
        "Boot": _format(verdict.portrait.boot_seconds or None, "{:.2f} s"),
        "Disk": _format(figures.get("disk_bytes"), "{:.0f} MiB", MIB),
        "Memory at rest": _format(figures.get("memory_bytes"), "{:.0f} MiB", MIB),
        "Packages": _format(len(verdict.portrait.packages) or None, "{:.0f}"),
        "To upgrade": _format(figures.get("upgrades"), "{:.0f}"),
    }
    shown = "".join(f'<div class="card"><span>{name}</span><b>{text}</b></div>' for name, text in tiles.items() if text)
    return f'<div class="figures">{shown}</div>' if shown else ""


def _format(value: float | None, form: str, unit: int = 1) -> str:
    return "" if value is None else form.format(value / unit)


def _render_list(title: str, outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return ""
    rows = "".join(_render_outcome(outcome) for outcome in outcomes)
    return _render_section(render_text(title), str(len(outcomes)), rows)


def _render_outcome(outcome: Outcome) -> str:
    row = _render_row(outcome)
    if not outcome.detail:
        return f'<div class="row {outcome.state}">{row}</div>'
    opened = " open" if outcome.state is State.FAILED else ""
    return (
        f'<details class="{outcome.state}"{opened}><summary class="row">{row}</summary>'
        f"<pre>{render_text(outcome.detail)}</pre></details>"
    )


def _render_row(outcome: Outcome) -> str:
    where, _, name = outcome.name.rpartition("::")
    place = f'<span class="where">{render_text(where)} / </span>' if where else ""
    meaning = HYGIENE_CHECKS.get(outcome.name, "") if outcome.group == "hygiene" else ""
    said = f'<span class="said">{render_text(outcome.message)}</span>' if outcome.message else ""
    return (
        f'<span class="mark" title="{WORDS[outcome.state]}">{MARKS[outcome.state]}</span>'
        f'<span class="what"><span class="name" title="{render_text(meaning)}">{place}{render_text(name)}</span>'
        f'{said}</span><span class="time">{_format_time(outcome.seconds)}</span>'
    )


def _format_time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _render_section(title: str, told: str, content: str) -> str:
    return f'<section><h2>{title} <small>{told}</small></h2><div class="card list">{content}</div></section>'


def _render_journal(portrait: Portrait) -> str:
    lines = portrait.journal_errors
    none = '<p class="quiet">no errors since the boot</p>'
    shown = "<pre>" + render_text("\n".join(lines)) + "</pre>" if lines else none
    return _render_section("Errors in the journal", str(len(lines)), shown)


def _render_packages(portrait: Portrait) -> str:
    if not portrait.packages:
        return ""
    rows = "".join(
        f"<tr><td>{render_text(package.name)}</td><td>{render_text(package.version)}</td><td>{render_text(package.arch)}</td></tr>"
        for package in portrait.packages
    )
    return (
        f'<section><h2>Packages <small id="shown">{len(portrait.packages)}</small></h2><div class="card list">'
        '<div class="find"><input id="filter" type="search" placeholder="filter by name or version" '
        f'aria-label="filter packages"></div><div class="scroll"><table id="packages">{rows}</table></div></div>'
        "</section>"
    )


def _render_facts(verdict: Verdict) -> str:
    facts = {"digest": verdict.digest, **verdict.facts}
    rows = "".join(
        f"<tr><th>{render_text(name)}</th><td class='mono'>{render_text(text)}</td></tr>"
        for name, text in facts.items()
    )
    return f'<section><h2>About this test</h2><div class="card list"><table>{rows}</table></div></section>'
