"""Numbers from arrays: scores, intervals, calibration, alarms."""
