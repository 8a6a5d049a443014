"""The call path of the hub beside other ways to run a model, measured with one client on one machine.

``python -m benchmarks`` starts each system in its own virtual environment on loopback, drives all of
them with the same closed-loop client, alternates them over the repetitions, and prints medians,
spread and the verdict on every goal.
"""
