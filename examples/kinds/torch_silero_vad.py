"""A speech detector that others trained: silero-vad, the TorchScript file inside its package.

Says for every 32 ms of a recording how probable it is that somebody speaks.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from _example import Example, publish_and_run

from dlhub_sdk.models.servables.pytorch import TorchModel

RATE = 16000  # samples in a second


def say_ah(seconds: float) -> npt.NDArray[np.float32]:
    """Synthesise a vowel: the harmonics of a voice at 120 Hz, loudest near the formants of an open "a"."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 15 * np.sin(2 * np.pi * 3 * time)  # a voice is never quite steady
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = np.zeros_like(time)
    for harmonic in range(1, 33):
        frequency = harmonic * pitch
        loudness = sum(1 / (1 + ((frequency - formant) / 90) ** 2) for formant in (700, 1200, 2600))
        voice += loudness * np.sin(harmonic * phase)
    return np.asarray(0.5 * voice / np.abs(voice).max(), dtype=np.float32)


def describe(directory: Path) -> Example:
    """Describe silero-vad, and let it hear half a second of silence, an "ah", and silence again."""
    package = find_spec("silero_vad")  # found, not imported: only its file is needed
    assert package is not None
    assert package.origin is not None
    path = shutil.copy(Path(package.origin).parent / "data" / "silero_vad.jit", directory)

    model = TorchModel.create_model(
        path, input_shape=("recordings", "samples"), output_shape=("recordings", "windows")
    )
    run = model["servable"]["methods"]["run"]
    run["method_details"]["method_name"] = "audio_forward"
    run["parameters"] = {"sr": RATE}
    model["servable"]["options"]["reset"] = "reset_states"  # it remembers what it heard before
    model.set_input_description(f"Recordings of {RATE} samples a second, from -1 to 1")
    model.set_output_description("Probability of speech in each 512 samples")
    model.set_title("Silero voice activity detector").set_name("silero-vad").set_license("MIT")
    model.set_domains(["speech"]).add_alternate_identifier("https://github.com/snakers4/silero-vad", "URL")

    silence = np.zeros(RATE // 2, dtype=np.float32)
    recording = np.concatenate([silence, say_ah(1.0), silence])[None, :]
    with torch.inference_mode():
        expected = torch.jit.load(path).audio_forward(torch.from_numpy(recording), RATE).numpy()
    model.set_test(recording, expected, rtol=1e-3, atol=1e-3)
    return Example(model, recording, expected, tolerance=1e-3)


if __name__ == "__main__":
    publish_and_run(describe)
