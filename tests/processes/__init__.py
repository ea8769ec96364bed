"""Starts `fashion-vgg` as a user does, but faster. Nothing here imports torch."""
