"""The process of an environment: runs batches that the worker hands to it, one after the other.

Started by `home_run.remote.children`, with its two pipes as arguments. Standard output and error are a file
of the worker's, so that whatever a servable prints never gets between the messages.
"""

from __future__ import annotations

import os
import sys
import threading

import msgpack

from home_run.errors import HomeRunError, to_struct
from home_run.remote import frames
from home_run.staging import use_stager
from home_run.staging.process import AskingStager
from home_run.worker import run_batch

__all__ = ["main"]


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = int(sys.argv[1]), int(sys.argv[2])
    # A servable that starts processes shall not hand them the pipes.
    os.set_inheritable(requests, False)
    os.set_inheritable(answers, False)

    def ask(question: bytes) -> bytes:
        with asking:
            frames.send(answers, frames.QUESTION, question)
            return frames.receive(requests)[1]

    asking = threading.Lock()
    use_stager(AskingStager(ask, is_isolated=True))
    frames.send(answers, frames.READY, b"")
    while True:
        try:
            _, request = frames.receive(requests)
        except EOFError:
            return
        try:
            kind, answer = frames.ANSWER, run_batch(request)
        except HomeRunError as exc:
            kind, answer = frames.FAILED, msgpack.packb(to_struct(exc))
        frames.send(answers, kind, answer)
