import shutil
import subprocess

from patience import WATCHDOG
from programs import REPO


def test_the_client_s_own_tests_pass_under_node():
    node = shutil.which("node")
    assert node, "apt-get install nodejs"
    tests = sorted((REPO / "bindings" / "js" / "test").glob("*.test.js"))
    done = subprocess.run(
        [node, "--test", *tests], capture_output=True, text=True, timeout=WATCHDOG, check=False
    )
    assert tests
    assert done.returncode == 0, done.stdout + done.stderr
