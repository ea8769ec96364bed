"""The book (d2l.ai) as a reference for tests and the benchmark."""
