"""One module per command of ``fashion-vgg``."""
