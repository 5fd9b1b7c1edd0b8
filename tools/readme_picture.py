"""Renders README.md as a forge shows it, and saves what a browser makes of it: readme_picture.py FILE.png"""

import sys
import tempfile
from pathlib import Path

import browser
import markdown
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 1000
PAGE = """<!doctype html>
<meta charset="utf-8">
<base href="{base}">
<style>
  body {{ box-sizing: border-box; max-width: {width}px; margin: 0 auto; padding: 24px 40px; color: #1f2328; background: #fff;
         font: 16px/1.5 "Noto Sans", "DejaVu Sans", sans-serif; }}
  h1, h2 {{ padding-bottom: .3em; border-bottom: 1px solid #d1d9e0; line-height: 1.25; margin: 24px 0 16px; }}
  img {{ max-width: 100%; border: 1px solid #d1d9e0; border-radius: 6px; }}
  a {{ color: #0969da; text-decoration: none; }}
  pre, code {{ font: 13.6px/1.45 "DejaVu Sans Mono", monospace; background: #f6f8fa; border-radius: 6px; }}
  pre {{ padding: 16px; overflow: auto; }}
  :not(pre) > code {{ padding: .2em .4em; }}
{colours}
</style>
{body}
"""


def page():
    extensions = ["pymdownx.superfences", "pymdownx.highlight", "sane_lists"]
    body = markdown.markdown(
        (ROOT / "README.md").read_text(encoding="utf-8"), extensions=extensions
    )
    colours = HtmlFormatter(style="friendly", nobackground=True).get_style_defs(".highlight")
    return PAGE.format(base=ROOT.as_uri() + "/", width=WIDTH, colours=colours, body=body)


def main(picture):
    with (
        tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as file,
        browser.chromium() as driver,
    ):
        file.write(page())
        file.flush()
        driver.get(Path(file.name).as_uri())
        height = driver.execute_script("return document.documentElement.scrollHeight")
        whole = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", whole)
        if not driver.execute_script("return [...document.images].every((i) => i.naturalWidth)"):
            sys.exit("readme_picture: a picture of README does not load")
        driver.save_screenshot(picture)


main(*sys.argv[1:])
