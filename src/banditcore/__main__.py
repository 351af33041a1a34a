"""Runs the command line as ``python -m banditcore``."""

from __future__ import annotations

import sys

from banditcore.cli.app import main

sys.exit(main())
