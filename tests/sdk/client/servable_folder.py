"""A small servable in a folder: a Python function and a data file that it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODULE = '''"""A function to publish."""

from pathlib import Path


def scale(x, factor=None):
    print(f"scaling {x}")
    if x == 13:
        raise LookupError("unlucky")
    if factor is None:
        factor = int((Path(__file__).parent / "data" / "factor.txt").read_text())
    return x * factor
'''


def write_servable(
    folder: Path, name: str = "scale", version: str = "1", data: bytes = b"2", **dlhub: Any
) -> Path:
    """Write ``dlhub.json`` and the files it names; ``data/factor.txt`` holds the default factor."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "scaling.py").write_text(MODULE)
    (folder / "data" / "factor.txt").write_bytes(data)
    (folder / "requirements.lock").write_text("")
    method = {
        "input": {"type": "number", "description": "What to scale"},
        "output": {"type": "number", "description": "The scaled number"},
        "parameters": {},
        "method_details": {"module": "scaling", "method_name": "scale", "autobatch": False},
    }
    document = {
        "datacite": {
            "titles": [{"title": "Scale a number"}],
            "creators": [{"familyName": "Doe", "givenName": "Jane", "affiliations": []}],
            "publisher": "DLHub",
            "publicationYear": "2024",
            "resourceType": {"resourceTypeGeneral": "InteractiveResource"},
        },
        "dlhub": {
            "name": name,
            "version": version,
            "domains": ["arithmetic"],
            "visible_to": ["public"],
            "type": "servable",
            "files": {"other": ["scaling.py", "data/factor.txt"]},
            "dependencies": {"python": {}},
            "environment": {"python": "3.11", "lock": "requirements.lock"},
            "test": {"inputs": 4, "outputs": 8},
            **dlhub,
        },
        "servable": {
            "type": "Python static method",
            "shim": "python.PythonStaticMethodServable",
            "methods": {"run": method},
            "options": {},
        },
    }
    (folder / "dlhub.json").write_text(json.dumps(document, indent=1))
    return folder
