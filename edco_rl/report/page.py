"""The report as one self-contained HTML page: data, style and script are in it, nothing is fetched."""

import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

from ..store import write_text
from .tables import is_single, remarks, rows

_MOST_FINDINGS = 8
# In this order: the last one draws.
_SCRIPTS = ("charts.js", "shapes.js", "runs.js", "page.js")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def write_page(data: dict[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        data (`dict[str, Any]`):
            What [`~edco_rl.report.build.build`] gives.
        path (`Path`):
            The HTML file.
    """
    single = is_single(data)
    # No text of the data can end the script element.
    values = json.dumps({**data, "single": single}, separators=(",", ":"))
    values = values.replace("</", "<\\/").replace("<!--", "<\\u0021--")
    files = resources.files(__package__)
    texts = {name: (files / name).read_text() for name in ("page.html", "page.css", *_SCRIPTS)}
    over = "prompts" if all(len(one["seeds"]) == 1 for one in data["series"]) else "seeds"
    bands = f"{data['level']:.0%} band over {over}" + ("." if single else " of the line that is pointed at.")
    body = texts["page.html"].format(
        title=html.escape(data["title"]),
        subtitle=html.escape(_subtitle(data)),
        band=bands,
        level=f"{data['level']:.0%}",
        mean="" if single else ", mean over seeds",
        headline=_headline(data),
        table=_table(rows(data)),
        remarks="".join(f"<li>{html.escape(line)}</li>" for line in remarks(data)),
        provenance=_provenance(data["made_by"]),
    )
    write_text(
        path,
        _PAGE.format(
            title=html.escape(data["title"]),
            style=texts["page.css"],
            script="".join(texts[name] for name in _SCRIPTS),
            body=body,
            data=values,
        ),
    )


def _subtitle(data: dict[str, Any]) -> str:
    runs = len(data["cells"])
    text = f"{runs} run{'s' if runs > 1 else ''}, {data['made']}"
    return f"{text}, in progress" if data["in_progress"] else text


def _headline(data: dict[str, Any]) -> str:
    """What was found, one sentence a finding."""
    sentences = _of_one_run(data) if is_single(data) else _of_comparisons(data)
    more = len(sentences) - _MOST_FINDINGS
    if more > 0:
        sentences = [*sentences[:_MOST_FINDINGS], f"And {more} more: see the table."]
    return "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)


def _of_one_run(data: dict[str, Any]) -> list[str]:
    [series] = data["series"]
    start, end = series["start"], series["final"]
    steps = f"{series['steps']:.0f} optimizer steps"
    if start is None:
        return [f"{steps}; accuracy was not measured."]
    [prompts] = series["prompts"]
    values = f"from {start['value']:.3f} to {end['value']:.3f} [{end['low']:.3f}, {end['high']:.3f}]"
    return [f"Accuracy on {prompts} held-out prompts went {values} in {steps}."]


def _of_comparisons(data: dict[str, Any]) -> list[str]:
    sentences, told = [], [entry for entry in data["comparisons"] if entry["units"]]
    for entry in told:
        if entry["verdict"]:
            result = entry["units"][data["unit"]]
            word = "fewer" if entry["verdict"] > 0 else "more"
            times = f"{result['ratio']:.2f} times as many" if result["ratio"] else "one never learned as much"
            sentences.append(
                f"{entry['task']}, {entry['method']}: {entry['curriculum']} needed {word} {data['unit']} than "
                f"{' '.join(entry['against'])} to learn the same ({times})."
            )
    if not told:
        return [f"{len(data['series'])} series without a comparison: see the remarks below the table."]
    if not sentences:
        counts = [entry["units"][data["unit"]] for entry in told]
        sentences = [f"None of the {len(told)} comparisons can be told from chance."]
        needed = [result["seeds_needed"] for result in counts if result["seeds"] > 1]
        if not needed:
            sentences.append("One seed says nothing of others: several are needed to tell.")
        elif None not in needed:
            sentences.append(f"At this noise a factor of 2 would be told with {max(needed)} seeds.")
        else:
            sentences.append("At this noise a factor of 2 would not be told with 99 seeds.")
    return sentences


def _table(found: list[dict[str, str]]) -> str:
    names = list(found[0])
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    lines = []
    for row in found:
        cells = (f'<td data-label="{html.escape(name)}">{html.escape(row[name])}</td>' for name in names)
        lines.append(f'<tr data-task="{html.escape(row["task"])}">{"".join(cells)}</tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"


def _provenance(made_by: dict[str, Any]) -> str:
    parts = []
    for name in ("commit", "hardware", "versions", "seeds"):
        values = made_by[name]
        shown = values[0] if len(values) == 1 else values
        text = shown if isinstance(shown, str) else json.dumps(shown, indent=1)
        parts.append(f"<dt>{name}</dt><dd><pre>{html.escape(text)}</pre></dd>")
    for name, value in (("matrix", made_by["matrices"]), ("settings of the first run", made_by["settings"])):
        text = html.escape(json.dumps(value, indent=1))
        parts.append(f"<dt>{name}</dt><dd><details><summary>show</summary><pre>{text}</pre></details></dd>")
    return "".join(parts)
