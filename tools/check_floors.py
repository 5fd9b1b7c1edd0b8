"""Floors: each file of libbus/ includes only its own floor and those below; third-party names stop at one file.

Run: python3 tools/check_floors.py [ROOT]. Prints each offence; status 1 if there is any.
"""

import re
import sys
from pathlib import Path

FLOOR = {"base": 0, "queue": 1, "log": 1, "core": 2, "link": 3, "transport": 4, "push": 4}
ONLY_IN = {  # header: the one file of libbus/ that may include it
    "nng/": "transport/nng_wire.c",
    "msgpack": "core/pack.c",
    "jansson.h": "core/json.c",
    "mbedtls/": "transport/tls.c",
}
# What lies outside may use public headers only; the extension, which holds the whole library, also floor 0.
OUTSIDE = {"tools": (), "examples": (), "gateways": (), "bindings": ("base",)}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)


def offences(root):
    for path in sorted((root / "libbus").rglob("*.[ch]")):
        inside = path.relative_to(root / "libbus")
        for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            floor = FLOOR.get(name.split("/")[0])
            if floor is not None and floor > FLOOR[inside.parts[0]]:
                yield f"libbus/{inside} includes {name}, which is a floor above"
            for foreign, home in ONLY_IN.items():
                if name.startswith(foreign) and str(inside) != home:
                    yield f"libbus/{inside} includes {name}; only {home} may"
    for folder, allowed in OUTSIDE.items():
        for path in sorted((root / folder).rglob("*.[ch]")):
            for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
                first = name.split("/")[0]
                if first in FLOOR and first not in allowed:
                    yield f"{path.relative_to(root)} includes {name}; it may use public headers only"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    found = list(offences(root))
    print("\n".join(found) or "floors: all includes go down")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
