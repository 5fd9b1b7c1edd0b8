"""libbus.socketio where python-socketio is missing, or too old."""

import pytest


def test_without_python_socketio_the_error_names_the_package(python):
    said = python(
        "import sys; sys.modules['socketio'] = None\n"
        "try: import libbus.socketio\n"
        "except ModuleNotFoundError as error: print(error.name, error)"
    )
    assert (
        said == "socketio libbus.socketio needs python-socketio: pip install 'libbus[socketio]'\n"
    )


@pytest.mark.parametrize("version", ["4.6.1", "5.7.2", "5.16.0"])
def test_with_an_old_python_socketio_the_error_names_the_version(python, version):
    said = python(
        "import importlib.metadata, sys, types\n"
        "sys.modules['socketio'] = types.ModuleType('socketio')\n"
        f"importlib.metadata.version = lambda name: {version!r}\n"
        "try: import libbus.socketio\n"
        "except ImportError as error: print(error)"
    )
    assert said == (
        f"libbus.socketio needs python-socketio 5.16.1, and {version} is installed:"
        " pip install -U 'libbus[socketio]'\n"
    )
