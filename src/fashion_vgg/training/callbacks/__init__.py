"""Callbacks for ``lightning.Trainer``."""
