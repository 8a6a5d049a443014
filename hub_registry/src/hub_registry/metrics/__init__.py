"""What the hub counts and measures, for Prometheus.

::

    figures   counters that the busy parts keep; a few hundred nanoseconds each, and no import
    snapshot  where the services stand at one moment
    render    both as text, with prometheus_client
    access    who may read it
    routes    GET /metrics
"""
