"""A Hydra sweeper whose trials are processes of their own; it is the study's loop: ask, launch, watch, tell.

    python app.py -m hydra/sweeper=study +sweep.n_trials=15 'lr=tag(log, interval(1e-4, 1e-2))'

A trial is the application's own command in RUN mode, in `<folder>/<trial number>/`; the application reports through
`trial.py`. Trials can therefore be pruned, killed, timed and given a GPU one by one, and the same command again goes
on where the study stands. Nothing here knows the application: any Hydra application may use it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import MISSING, SI, DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from conveyorguard.training.trial import build_pruner, open_storage
