"""Real services of a site on one machine: schedulers and container programs, started by the tests themselves.

Each is started by one class of this package, as children of a keeper process that ends with the tests and
takes everything with it (`family.py`), in a temporary directory and on free ports, so that any number of test
processes use their own side by side. Tests name what they need with ``pytest.mark.service(...)``; the probes
are in ``tests/services.py``.
"""
