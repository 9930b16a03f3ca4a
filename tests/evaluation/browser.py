"""A headless browser that opens a page and measures what a person would see."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
MEASURE = """<script>
const right = (shape) => shape.getBoundingClientRect().right;
const charts = [...document.querySelectorAll("figure svg")].filter((chart) => chart.clientWidth > 0);
const measured = {
  window: window.innerWidth,
  page: document.documentElement.scrollWidth,
  figures: [...document.querySelectorAll("figure")].map((figure) => ({
    right: right(figure),
    width: figure.clientWidth,
    height: figure.clientHeight,
  })),
  charts: charts.map((chart) => ({
    right: right(chart),
    room: right(chart.closest("figure")),
    words: [...chart.querySelectorAll("text")].map((text) => [text.textContent.trim(), right(text)]),
    letters: Math.min(...[...chart.querySelectorAll("text")].map((text) => text.getBoundingClientRect().height)),
  })),
};
parent.postMessage(JSON.stringify(measured), "*");
</script>"""


FRAME = """<!doctype html><pre id="measured"></pre><script>
addEventListener("message", (message) => {{ document.getElementById("measured").textContent = message.data; }});
</script><iframe src="report.html" style="width: {width}px; height: 900px; border: 0"></iframe>"""
"""A page of its own, since no window of a browser is as narrow as a telephone."""


def measure_in_browser(page: str, folder: Path, width: int) -> dict[str, Any]:
    """Open a page in a window of this width, and measure it: widths, charts with their words, and errors."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of the browsers {BROWSERS} is installed")
    (folder / "report.html").write_text(page.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    measured = json.loads(html.unescape(re.search(r'<pre id="measured">(.*?)</pre>', done.stdout)[1]))
    return measured | {"console": re.findall(r":CONSOLE.*", done.stderr)}
