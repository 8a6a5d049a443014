"""A Python function: its types are read off its hints and its docstring."""

from __future__ import annotations

from pathlib import Path

import humidity
import numpy as np
from _example import Example, publish_and_run

from dlhub_sdk.models.servables.python import PythonStaticMethodModel


def describe(directory: Path) -> Example:
    """Describe `humidity.dew_point`, which has two arguments and a parameter."""
    temperatures = np.linspace(-10.0, 35.0, 10)
    inputs = (temperatures, np.full(10, 0.5))
    expected = humidity.dew_point(*inputs)

    model = PythonStaticMethodModel.create_model(f=humidity.dew_point, auto_inspect=True)
    model.add_file(humidity.__file__, target="humidity.py")
    model.set_title("Dew point of air").set_name("dew-point").set_domains(["meteorology"])
    model.add_related_identifier("10.1175/BAMS-86-2-225", "DOI", "IsDescribedBy")
    model.set_test(inputs, expected, rtol=1e-12)
    return Example(model, inputs, expected, tolerance=1e-12)


if __name__ == "__main__":
    publish_and_run(describe)
