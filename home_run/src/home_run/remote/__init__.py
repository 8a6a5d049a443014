"""Servables on workers that share no file system with the hub.

`run` is what a worker of a Globus Compute endpoint calls, with one batch; `run_many` is what the agent of a
site has it call, with several. The files of the servable, its
environment, large inputs and large results travel by signed links to the hub; what has been fetched or built
is kept in a cache of the site. `home_run.remote.batches` describes the messages.
"""

from __future__ import annotations

__all__ = ["run", "run_many", "run_tasks"]


def run(request: str) -> str:
    """Run one batch; see `home_run.remote.batches`.

    Blocks for as long as the batch takes, at first also while the servable is fetched and its environment is
    built. Thread-safe. Never raises: whatever goes wrong is in the answer.

    Parameters
    ----------
    request : str
        Base64 of msgpack.

    Returns
    -------
    str
        The answer, in the same form.
    """
    # Loaded here: the child process of an environment imports this package too, and needs none of that.
    from home_run.remote.batches import answer

    return answer(request)


def run_many(requests: bytes) -> bytes:
    """Run several batches, one after the other; see `home_run.remote.many`.

    Blocks for as long as they take together. Thread-safe. Never raises where the message itself can be read:
    whatever goes wrong with a batch is in its answer.

    Parameters
    ----------
    requests : bytes
        msgpack of ``{"v": 1, "requests": [bytes, …]}``.

    Returns
    -------
    bytes
        msgpack of ``{"v": 1, "answers": [bytes, …], "spent": [[run_s, load_s, events], …]}``, in the order of
        the requests.
    """
    from home_run.remote.many import answer_many

    return answer_many(requests)


def run_tasks(tasks: bytes) -> bytes:
    """Run several tasks of Globus Compute, one after the other; see `home_run.remote.functions`.

    Blocks for as long as they take together. Needs ``globus-compute-endpoint``, as its workers have it.
    """
    from home_run.remote.functions import answer_tasks

    return answer_tasks(tasks)
