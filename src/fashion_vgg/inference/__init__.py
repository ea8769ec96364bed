"""Using trained networks: which weights, which images, predictions, exported files, a page in the browser."""
