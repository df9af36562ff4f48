"""What C becomes on a board: image, sizes, stack bound, emulator, flashing, figures."""
