"""Prints the JSON Schema of the servable document: ``python -m dlhub_sdk.models``."""

import json

from dlhub_sdk.models.document import json_schema

print(json.dumps(json_schema(), indent=2))
