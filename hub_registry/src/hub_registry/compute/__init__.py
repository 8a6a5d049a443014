"""Tasks of the gateway: functions that callers send to endpoints of their choice."""
