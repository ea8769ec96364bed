"""What `fashion-vgg bench` measures: loops that train, the hardware's limit, the data's way, and growth."""
