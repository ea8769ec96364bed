"""What a network is made of: its layers, what they cost in numbers, time and memory, and how they look."""
