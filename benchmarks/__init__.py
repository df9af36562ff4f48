"""Evidence: what `tasuki bench` measures and `tasuki demo` shows."""
