"""Truefit: from a table to a model in production, in notebooks that are read, run and proven."""

import os

# ONNX Runtime 1.31 tells its maker of its use unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
