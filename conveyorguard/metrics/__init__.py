"""Figures computed from arrays: scores, intervals, calibration, alarms."""
