"""What networks and training steps cost: layers, memory, roofline, benchmark."""
