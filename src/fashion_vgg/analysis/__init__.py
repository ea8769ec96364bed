"""Where a trained network is right, wrong, and overconfident, and what its layers respond to: values, plots, a page."""
