"""Run the command line: python -m conveyorguard."""

import sys

from conveyorguard.cli import main

sys.exit(main())
