"""The servable of the end-to-end tests: it does what its input says."""

import os
import socket
import time


def connect(address):
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), 5).close()
    return "connected"


def read(path):
    with open(path) as file:
        return file.read()


def write(path):
    with open(path, "w"):
        return "written"


_ATTEMPTS = {"connect": connect, "read": read, "write": write}


def work(x):
    """Return the input, or fail, die or sleep if it says so."""
    if isinstance(x, str):
        word, _, rest = x.partition(" ")
        if word == "raise":
            print("about to fail")
            raise ValueError(rest)
        if word == "die":
            os._exit(9)
        if word == "sleep":
            time.sleep(float(rest))
        if word == "spawn":
            os.system("setsid sleep 600 >/dev/null 2>&1 &")
        if word == "print":
            print(rest)
        if word == "environ":
            return sorted(os.environ)
        if word in _ATTEMPTS:
            try:
                return _ATTEMPTS[word](rest)
            except OSError as error:
                return type(error).__name__
    return x
