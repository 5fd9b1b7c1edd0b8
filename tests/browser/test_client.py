import gzip
import hashlib
import os
import shutil
import subprocess

import pytest
from patience import WATCHDOG
from programs import REPO

JS = REPO / "bindings" / "js"


@pytest.mark.parametrize("served", ["libbus.js", "libbus.min.js"])
def test_the_client_s_own_tests_pass_under_node(served):
    node = shutil.which("node")
    assert node, "apt-get install nodejs"
    tests = sorted((JS / "test").glob("*.test.js"))
    done = subprocess.run(
        [node, "--test", *tests], env=os.environ | {"LIBBUS_JS": str(JS / served)},
        capture_output=True, text=True, timeout=WATCHDOG, check=False,
    )  # fmt: skip
    assert tests
    assert done.returncode == 0, done.stdout + done.stderr


def test_pages_get_the_client_as_its_source_is():
    digest = hashlib.sha256((JS / "libbus.js").read_bytes()).hexdigest()[:16]
    assert digest in (JS / "libbus.min.js").read_text(), "libbus.js has changed: run ./dev js"


def test_pages_load_5_kb_at_most():
    assert len(gzip.compress((JS / "libbus.min.js").read_bytes(), mtime=0)) <= 5000
