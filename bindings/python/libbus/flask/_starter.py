"""The page of bus.page(): shows values as they arrive, for a first try."""

from __future__ import annotations

import json
import shlex

from markupsafe import Markup

PAGE = Markup("""<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<style nonce="{nonce}">
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-bottom: 1px solid #8884; padding: .3rem .6rem .3rem 0; vertical-align: top; overflow-wrap: anywhere }}
td + td {{ font: 14px/1.7 ui-monospace, monospace; white-space: pre-wrap }}
#state, #hint {{ color: #888 }}
</style>
<h1>{title}</h1>
<p id="state">connecting</p>
<p id="hint">No message yet. Publish one: <code>{hint}</code></p>
<table id="values"></table>
{script}
<script nonce="{nonce}">
const bus = libbus(), rows = new Map(), table = document.getElementById("values");
function show(value, msg) {{
	document.getElementById("hint")?.remove();
	let cell = rows.get(msg.topic);
	if (!cell) {{
		const row = table.insertRow();
		row.insertCell().textContent = msg.topic;
		rows.set(msg.topic, cell = row.insertCell());
	}}
	cell.textContent = typeof value === "string" ? value
		: JSON.stringify(value, (_, each) => typeof each === "bigint" ? String(each) : each);
}}
for (const filter of {filters})
	bus.on(filter, show);
bus.onstate = (state, reason) => document.getElementById("state").textContent = reason ? `${{state}}: ${{reason}}` : state;
</script>
""")


def html(filters: tuple[str, ...], script: Markup, nonce: str | None, bus: str | None) -> str:
    # "<" would end the script early.
    names = Markup(json.dumps(filters).replace("<", "\\u003c"))
    return PAGE.format(
        title=" ".join(filters),
        script=script,
        filters=names,
        nonce=nonce or "",
        hint=_how_to_publish(filters, bus),
    )


def _how_to_publish(filters: tuple[str, ...], bus: str | None) -> str:
    topic = "".join(filters[:1]).replace("+", "test").replace("#", "test")
    if bus is None:  # a private bus: no other program can publish on it
        return f"bus.publish({json.dumps(topic)}, 1)"
    return shlex.join(["libbus", "pub", bus, topic, "1"])
