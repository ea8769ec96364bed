"""The network and training loop of the book (d2l.ai), to compare with."""
