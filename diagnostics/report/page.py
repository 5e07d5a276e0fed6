"""The diagnosis as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from html import escape as escaped

from open_webui_edge.diagnostics.finding import Finding, Severity
from open_webui_edge.diagnostics.question import Diagnosis, Ranked
from open_webui_edge.diagnostics.report.picture import picture
from open_webui_edge.diagnostics.report.wording import HOPS, parts, printable, verdict

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --faint: #5b6570; --line: #c9d0d6; --card: #f6f8f9;
  --failure: #b3261e; --failure-paper: #fdeceb; --warning: #8a5a00; --warning-paper: #fff4dc; --ok: #1d6b3a;
  --ok-paper: #e9f6ee; --unknown: #6b3fa0; --unknown-paper: #f3ecfb; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e8ebee; --faint: #a3adb7; --line: #414a52;
  --card: #1e2327; --failure: #ff8f87; --failure-paper: #3d1a18; --warning: #f0b849; --warning-paper: #36290d;
  --ok: #7fd49b; --ok-paper: #14301f; --unknown: #c9a6f2; --unknown-paper: #2b2038; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; margin: 0; }
.verdict { margin: .2rem 0 1rem; color: var(--faint); }
.picture { overflow-x: auto; } svg { width: 100%; min-width: 46rem; height: auto; display: block; }
svg text { font: 15px system-ui, sans-serif; text-anchor: middle; fill: var(--ink); }
svg text.state { font-size: 13px; fill: var(--faint); }
svg rect { fill: var(--card); stroke: var(--line); stroke-width: 1.5; }
svg .way { fill: none; stroke: var(--faint); stroke-width: 1.5; }
svg .ok rect { fill: var(--ok-paper); stroke: var(--ok); } svg .ok .state { fill: var(--ok); }
svg .silent rect { fill: none; stroke-dasharray: 5 4; } svg .way.silent { stroke-dasharray: 5 4; }
svg .unknown rect { fill: var(--unknown-paper); stroke: var(--unknown); stroke-dasharray: 5 4; }
svg .warning rect { fill: var(--warning-paper); stroke: var(--warning); stroke-width: 2.5; }
svg .warning .state { fill: var(--warning); font-weight: 600; }
svg .failure rect { fill: var(--failure-paper); stroke: var(--failure); stroke-width: 3.5; }
svg .failure .state { fill: var(--failure); font-weight: 700; }
svg .way.failure { stroke: var(--failure); stroke-width: 2.5; stroke-dasharray: 3 4; }
svg .way.tip { stroke-dasharray: none; }
article { border: 1px solid var(--line); border-left: .4rem solid var(--line); border-radius: .4rem;
  padding: .8rem 1rem; margin: .8rem 0; background: var(--card); }
article.failure { border-left-color: var(--failure); } article.warning { border-left-color: var(--warning); }
article.unknown { border-left-color: var(--unknown); }
.word { font-weight: 700; margin-right: .5rem; } .failure .word { color: var(--failure); }
.warning .word { color: var(--warning); } .unknown .word { color: var(--unknown); }
.where { color: var(--faint); font-weight: 400; }
dl { display: grid; grid-template-columns: 5rem 1fr; gap: .3rem 1rem; margin: .5rem 0 0; }
dt { color: var(--faint); } dd { margin: 0; } code { font-family: ui-monospace, monospace; font-size: .95em; }
table { border-collapse: collapse; width: 100%; } td { border-top: 1px solid var(--line); padding: .3rem .6rem .3rem 0;
  vertical-align: top; } td:first-child { white-space: nowrap; } summary { cursor: pointer; margin-top: 2rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(diagnosis: Diagnosis) -> str:
    """Return the file's text."""
    ranked = diagnosis.ranked
    cards = [_card(one) for one in ranked if one.finding.is_trouble or one.finding.severity is Severity.UNKNOWN]
    notes = [one.finding for one in ranked if one.finding.severity is Severity.NOTE]
    fine = [one.finding for one in ranked if one.finding.severity is Severity.OK]
    url = _shown(diagnosis.subject.url)
    word = ("OK", "Warnings", "Failures")[diagnosis.exit_code]
    to_do = f"<h2>What to do</h2>\n{''.join(cards)}"
    if not cards:
        to_do = "<h2>Nothing to do</h2>\n<p>All checks that could run passed.</p>\n"
    known = f"<h2>Worth knowing</h2>\n{_rows(notes)}" if notes else ""
    passed = f"<details><summary>{len(fine)} checks passed</summary>\n{_rows(fine)}</details>\n" if fine else ""
    when = f"{diagnosis.asked_at:%Y-%m-%d %H:%M} UTC"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{word}: {url}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{url}</h1>\n"
        f'<p class="verdict">{_shown(verdict(diagnosis))}, asked on {when} in {diagnosis.seconds:.0f} s</p>\n'
        f'<div class="picture">{picture(diagnosis)}</div>\n'
        f"{to_do}{known}{passed}</body>\n</html>\n"
    )


def _card(one: Ranked) -> str:
    finding = one.finding
    lines = [(label, _SHOWN.get(label, _shown)(text)) for label, text in parts(finding) if text]
    if one.explained:
        lines.append(("Explains", "<br>".join(f"{_shown(each.check)}: {_shown(each.seen)}" for each in one.explained)))
    said = "".join(f"<dt>{label}</dt><dd>{text}</dd>" for label, text in lines)
    return (
        f'<article class="{finding.severity.value}"><h3><span class="word">{finding.severity.name}</span>'
        f'{_shown(finding.check)} <span class="where">{HOPS[finding.hop]}</span></h3><dl>{said}</dl></article>\n'
    )


def _rows(findings: list[Finding]) -> str:
    rows = [f"<tr><td>{_shown(each.check)}<td>{_shown(f'{each.seen} {each.why}'.strip())}" for each in findings]
    return f"<table>{''.join(rows)}</table>\n"


def _shown(text: str) -> str:
    return escaped(printable(text))


def _with_code(text: str) -> str:
    """Set what stands between backquotes as code."""
    parts = _shown(text).split("`")
    if len(parts) % 2 == 0:  # one without its other half
        return _shown(text)
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


_SHOWN = {"Fix": _with_code, "Setting": lambda text: f"<code>{_shown(text)}</code>"}
