"""Humidity of air: the code that `python_function.py` publishes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Magnus's formula over water with the constants that Lawrence (2005) recommends, doi:10.1175/BAMS-86-2-225.
SLOPE, ZERO_C = 17.625, 243.04


def dew_point(
    temperature: npt.NDArray[np.float64], humidity: npt.NDArray[np.float64], unit: str = "C"
) -> npt.NDArray[np.float64]:
    """Return the temperature at which the water in air condenses.

    Parameters
    ----------
    temperature
        Of the air.
    humidity
        Relative humidity, from 0 to 1.
    unit
        Of the temperatures, ``"C"`` or ``"K"``.

    Returns
    -------
    numpy.ndarray
        The dew point.
    """
    shift = {"C": 0.0, "K": 273.15}[unit]
    celsius = temperature - shift
    gamma = np.log(humidity) + SLOPE * celsius / (ZERO_C + celsius)
    return ZERO_C * gamma / (SLOPE - gamma) + shift
