#!/usr/bin/env python3
"""Draws docs/charts/strategies-N.svg: the bytes that a release pushes with each strategy and N layers, without propagation.

    benches/scripts/strategy-charts.py target/release/nixply

The charts come from the page of `nixply strategies --format html` for a history of bookworm. Each becomes a separate file, with
light colours on white.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HISTORY = ROOT / "benches/histories/debian-stable-medium.json.zst"
CHARTS = ROOT / "docs/charts"
LIMITS = [40, 100]
SHAPES = """
text{font:12px sans-serif;fill:var(--ink)}text.faint{fill:var(--faint);font-size:11px}text.number{font-size:11px}
.grid{stroke:var(--grid);stroke-width:1}.fill{fill:var(--c)}.fill.p95{fill-opacity:.5}
.of-floor{stroke:var(--floor);stroke-width:1.3;stroke-dasharray:4 3}"""


def colours(page):
    """Returns the page's colours for light backgrounds, which precede those for dark ones."""
    light = page.partition("<style>")[2].partition("@media")[0]
    root, kinds = re.search(r"^:root *{.*}", light, re.M), re.findall(r"\.s\d+ *{[^}]*}", light)
    if not root or not kinds:
        sys.exit("error: the page has no colours where they used to be")
    return re.sub(r" *([{}:;]) *", r"\1", "".join([root[0].replace("color-scheme: light dark;", ""), "\n", *kinds]))


def chart(page, limit):
    found = re.search(rf"<summary>At most {limit} layers.*?<h3>Pushed in a release</h3>.*?<svg ([^>]*)>(.*?)</svg>", page, re.S)
    size = found and re.search(r'viewBox="0 0 (\d+) (\d+)"', found[1])
    if not size:
        sys.exit(f"error: the page has no chart of {limit} layers where it used to be")
    width, height = map(int, size.groups())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {found[1]} width="{width * 3 // 2}"><style>{colours(page)}{SHAPES}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{found[2]}</svg>\n'
    )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    command = [sys.argv[1], "strategies", HISTORY, "--no-propagation", "--format=html", "--quiet"]
    command.append("--max-layers=" + ",".join(map(str, LIMITS)))
    page = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    for limit in LIMITS:
        (CHARTS / f"strategies-{limit}.svg").write_text(chart(page, limit))


if __name__ == "__main__":
    main()
