"""The cost of networks and training steps: layers, memory, roofline, benchmark."""
