"""What docs/migrate/live-pages.md says of its apps is what they are."""

import migrate_lines


def test_the_page_has_the_table_that_the_tool_prints():
    page = migrate_lines.PAGE.read_text(encoding="utf-8")
    assert page.count(migrate_lines.HEAD) == 1
    assert f"{migrate_lines.table()}\n" in page, "put what tools/migrate_lines.py prints there"


def test_flask_sse_changes_its_import_only():
    before, after, _ = migrate_lines.apps()["Flask-SSE"]
    before, after = migrate_lines.lines(before), migrate_lines.lines(after)
    assert [line for line in after if line not in before] == [
        "from libbus.compat.flask_sse import sse"
    ]
    assert [line for line in before if line not in after] == [
        "from flask_sse import sse",
        'app.config["REDIS_URL"] = "redis://localhost"',
    ]
