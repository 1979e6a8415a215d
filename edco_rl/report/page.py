"""The report as one self-contained HTML page: data, style and script are in it, nothing is fetched."""

import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

from ..store import write_text
from .tables import remarks, rows

_MOST_FINDINGS = 8
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
    files = resources.files(__package__)
    texts = {name: (files / name).read_text() for name in ("page.html", "page.css", "charts.js", "page.js")}
    body = texts["page.html"].format(
        title=html.escape(data["title"]),
        subtitle=html.escape(f"{len(data['cells'])} runs, {data['made']}"),
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
            script=texts["charts.js"] + texts["page.js"],
            body=body,
            # No text of the data can end the script element.
            data=json.dumps(data, separators=(",", ":")).replace("</", "<\\/").replace("<!--", "<\\u0021--"),
        ),
    )


def _headline(data: dict[str, Any]) -> str:
    """What was found, one sentence a finding."""
    sentences = []
    for entry in data["comparisons"]:
        if entry["units"] and entry["verdict"]:
            result = entry["units"][data["unit"]]
            word = "fewer" if entry["verdict"] > 0 else "more"
            how = f"{result['ratio']:.2f} times as many" if result["ratio"] else "the baseline did not get there"
            sentences.append(
                f"{entry['task']}, {entry['method']}: {entry['curriculum']} needed {word} {data['unit']} than "
                f"{' '.join(entry['against'])} to reach {entry['target']:.2f} ({how})."
            )
    told = sum(bool(entry["units"]) for entry in data["comparisons"])
    if not sentences and told:
        sentences = [f"None of the {told} comparisons can be told from chance."]
    elif not told:
        sentences = ["Nothing could be compared: see the remarks below the table."]
    more = len(sentences) - _MOST_FINDINGS
    if more > 0:
        sentences = [*sentences[:_MOST_FINDINGS], f"And {more} more: see the table."]
    return "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)


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
