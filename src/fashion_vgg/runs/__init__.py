"""The folders of finished and running trainings: status, metrics, comparison."""
