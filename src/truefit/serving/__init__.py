"""Serve exported bundles over HTTP: no scikit-learn, no pandas, no pickle."""

from truefit.serving.app import create_app
from truefit.serving.server import Options, serve

__all__ = ["Options", "create_app", "serve"]
