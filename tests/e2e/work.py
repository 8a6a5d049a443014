"""The servable of the end-to-end tests: it does what its input says."""

import os
import time


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
    return x
