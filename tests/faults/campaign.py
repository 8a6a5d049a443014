"""Sends tasks to an endpoint through the official SDK and prints what becomes of them, a JSON object a line.

campaign.py ENDPOINT run COUNT [--sleep S] [--die INPUT] [--batches N]
campaign.py ENDPOINT reload GROUP
"""

import argparse
import json
import sys
import threading
import time

from globus_compute_sdk import Client, Executor

_lock = threading.Lock()


def work(x, seconds, dies):
    import os
    import time

    if dies:
        os._exit(9)
    time.sleep(seconds)
    return x * x


def say(kind, **what):
    with _lock:
        print(json.dumps({"kind": kind, **what}), flush=True)


def tell(number, future):
    error = future.exception()
    if error is None:
        say("result", input=number, task=future.task_id, value=future.result())
    else:
        say("error", input=number, task=future.task_id, message=str(error))


def run(executor, options):
    futures = []
    for number in range(options.count):
        if number and number % max(1, options.count // options.batches) == 0:
            time.sleep(options.pause)
        future = executor.submit(work, number, options.sleep, number == options.die)
        future.add_done_callback(lambda ended, number=number: tell(number, ended))
        futures.append(future)
    for number, future in enumerate(futures):
        while future.task_id is None and not future.done():
            time.sleep(0.01)
        if future.task_id is not None:
            say("accepted", input=number, task=future.task_id)
    say("group", id=str(executor.task_group_id))


def reload(executor, options):
    futures = list(executor.reload_tasks(options.group))
    say("group", id=options.group, tasks=[future.task_id for future in futures])
    for number, future in enumerate(futures):
        future.add_done_callback(lambda ended, number=number: tell(number, ended))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("count", type=int)
    command.add_argument("--sleep", type=float, default=0.0)
    command.add_argument("--die", type=int, default=-1)
    command.add_argument("--batches", type=int, default=1)
    command.add_argument("--pause", type=float, default=0.5)
    command.set_defaults(do=run)
    command = commands.add_parser("reload")
    command.add_argument("group")
    command.set_defaults(do=reload)
    options = parser.parse_args()
    client = Client(local_compute_services=True)
    with Executor(endpoint_id=options.endpoint, client=client) as executor:
        options.do(executor, options)


if __name__ == "__main__":
    sys.exit(main())
