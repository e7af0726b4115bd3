"""The schema of a growing table, and the seconds that a follower yields."""

from conveyorguard.data.schema import Schema


def table_schema(**changes):
    node = {
        "columns": {"time": "time"},
        "channels": {"heat": "degC", "amps": "A"},
        "states": [{"name": "a"}, {"name": "b"}],
    }
    return Schema.from_config({**node, **changes})


def seconds_of(follower):
    return [(session.name, int(t)) for session in follower.poll() for t in session.time]
